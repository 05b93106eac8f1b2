-- Every table. Postgres and SQLite run this file as it stands; running it again changes nothing.

-- The counts. Nothing but the name is indexed, so that Postgres updates a row in place (HOT) however often it is clicked.
create table if not exists counter (
    name  text   not null primary key,
    value bigint not null check (value between 0 and 9223372036854775807), -- SQLite would go on as a float
    base  bigint not null default 0 -- the part of value that was put there, not clicked
);

-- The keys of the clicks that were counted, until nobody will send them again.
create table if not exists click (
    key     text   not null,
    name    text   not null,
    expires bigint not null, -- Unix time, in seconds, by the database's clock
    primary key (key, name)
);

create index if not exists click_expires on click (expires);
