-- Every table. Postgres and SQLite run this file as it stands; running it again changes nothing.

-- The counts. Nothing but the name is indexed, so that Postgres updates a row in place (HOT) however often it is clicked.
create table if not exists counter (
    name  text   not null primary key,
    value bigint not null
);

-- The clicks of each day. What was set or imported has no days.
create table if not exists daily (
    name  text   not null,
    day   text   not null, -- like 2026-11-22, in UTC, by the database's clock
    value bigint not null,
    primary key (name, day)
);

-- The keys of the clicks that were counted, until nobody will send them again.
create table if not exists click (
    key     text   not null,
    name    text   not null,
    expires bigint not null, -- Unix time, in seconds, by the database's clock
    primary key (key, name)
);

create index if not exists click_expires on click (expires);
