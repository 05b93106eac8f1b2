"""<click-counter> on pages of other sites, in a real browser."""

import pytest
from pages import (
    ICON,
    LIKE,
    PICTURES,
    Site,
    check_accessibility,
    count,
    element,
    has_value,
    note,
    press,
    requests_of,
    stored,
    wait_for,
)
from playwright.sync_api import expect

OFFLINE = "ERR_INTERNET_DISCONNECTED"


@pytest.fixture
def function(visited):
    return visited.function


@pytest.fixture
def database(visited):
    return visited.database


@pytest.fixture
def unlisted():
    site = Site()
    yield site
    site.close()


def test_listed_site_reads_and_clicks(function, listed, page):
    function.click("post-1")
    page.goto(listed.put(function, LIKE))
    expect(count(page)).to_have_text("1")
    press(page, times=3)
    expect(count(page)).to_have_text("4")
    assert function.count("post-1") == 4
    assert page.evaluate("[localStorage.length, document.cookie, sessionStorage.length]") == [0, "", 0]


def test_site_that_is_not_listed_shows_the_count_and_is_refused_calmly(function, unlisted, page):
    function.click("post-1")
    page.goto(unlisted.put(function, LIKE))
    expect(count(page)).to_have_text("1")
    page.evaluate("addEventListener('click-counter-refused', (event) => (window.reason = event.detail.reason))")
    press(page)
    expect(note(page)).to_have_text("1 click could not be counted. This site may only show the count.")
    assert "ALLOWED_ORIGINS" in page.evaluate("reason")
    expect(count(page)).to_have_text("1")
    assert stored(page) == 0
    assert function.count("post-1") == 1
    assert any(f"ALLOWED_ORIGINS=…,{unlisted.origin}" in error for error in page.errors)  # what its owner has to do
    assert all("403" in error for error in page.errors)
    page.errors.clear()


def test_owner_of_a_site_that_is_not_listed_is_told_at_load(function, unlisted, listed, page):
    page.expected.append("ALLOWED_ORIGINS=…,")
    page.goto(unlisted.put(function, LIKE.replace(">", " readonly>", 1)))
    has_value(page)
    page.goto(listed.put(function, LIKE))
    has_value(page)
    assert page.errors == []
    page.goto(unlisted.put(function, LIKE))
    wait_for(page, lambda: page.errors)
    assert f"ALLOWED_ORIGINS=…,{unlisted.origin}" in page.errors[0]


def test_page_that_is_opened_as_a_file_is_told_to_be_served(function, page, tmp_path):
    script = f'<script type="module" src="{function.url}/click-counter.js"></script>'
    (tmp_path / "post.html").write_text(f"<!doctype html><title>Post</title>{ICON}{script}{LIKE}")
    page.goto(f"file://{tmp_path}/post.html")
    has_value(page)
    press(page)
    expect(note(page)).to_contain_text("This site may only show the count.")
    wait_for(page, lambda: len(page.errors) == 2)
    assert any("serve it" in error for error in page.errors)
    page.errors.clear()


def test_unlisted_click_waits_while_nothing_can_be_read(function, unlisted, page):
    page.expected += [OFFLINE, "ALLOWED_ORIGINS=…,"]
    page.goto(unlisted.put(function, LIKE))
    has_value(page)
    page.context.set_offline(True)
    press(page)
    expect(note(page)).to_contain_text("1 click is waiting")
    page.wait_for_timeout(3000)
    assert stored(page) == 1


def test_elements_with_other_names_and_with_the_same_stay_right(function, listed, page):
    page.goto(listed.put(function, 2 * LIKE + '<click-counter name="post-2">Like</click-counter><click-counter>'))
    for index in range(4):
        has_value(page, index)
    press(page, 0, 2)
    press(page, 1, 3)
    press(page, 2, 1)
    press(page, 3, 4)
    for index, text in enumerate(("5", "5", "1", "4")):
        expect(count(page, index)).to_have_text(text)
    assert [function.count(name) for name in ("post-1", "post-2", "hello-world-button")] == [5, 1, 4]


def test_elements_of_a_page_share_their_requests(function, listed, page):
    asked = requests_of(page, "/value")
    page.clock.install()
    page.goto(listed.put(function, "".join(f'<click-counter name="post-{n}">Like</click-counter>' for n in range(8))))
    has_value(page, 7)
    assert len(asked) == 1
    assert asked[0].count("name=post-") == 8
    function.click("post-3")
    page.clock.run_for(4000)
    expect(count(page, 3)).to_have_text("1")
    assert len(asked) == 2


def test_more_elements_than_one_request_takes(function, listed, page):
    function.click("post-119")
    page.goto(listed.put(function, "".join(f'<click-counter name="post-{n}"></click-counter>' for n in range(120))))
    expect(count(page, 119)).to_have_text("1")


def test_counter_that_does_not_exist_says_so_and_the_others_go_on(function, listed, page):
    page.goto(listed.put(function, '<click-counter name="nothing">Like</click-counter>' + LIKE))
    expect(note(page)).to_have_text("There is no such counter.")
    press(page, 1)
    expect(count(page, 1)).to_have_text("1")
    press(page, 0)
    expect(note(page)).to_contain_text("1 click could not be counted.")
    assert any("COUNTERS=" in error and ",nothing" in error for error in page.errors)
    assert all("404" in error for error in page.errors)
    page.errors.clear()


def test_clicks_without_network_are_delivered_by_the_sites_next_page(function, listed, page):
    page.expected.append(OFFLINE)
    context = page.context
    page.goto(listed.put(function, LIKE))
    has_value(page)
    context.set_offline(True)
    press(page, times=3)
    expect(note(page)).to_contain_text("3 clicks are waiting")
    page.close()
    context.set_offline(False)
    another = context.new_page()
    another.goto(listed.put(function, '<click-counter name="post-2">Like</click-counter>', "/another"))
    wait_for(another, lambda: function.count("post-1") == 3)
    wait_for(another, lambda: stored(another) == 0)
    assert function.count("post-2") == 0


@pytest.mark.parametrize("failure", ["lost", "503", "429"])
def test_failure_that_tells_a_script_nothing_costs_a_listed_site_no_click(function, listed, page, failure):
    """A lost reply, or a proxy's answer without CORS headers, looks like a refusal; the count can be read meanwhile."""
    failed = []

    def fail(route):
        if route.request.method != "POST" or len(failed) > 3:
            return route.continue_()
        failed.append(failure)
        if failure == "lost":
            route.fetch()
            return route.abort("connectionreset")
        return route.fulfill(status=int(failure), body="busy")

    page.clock.install()
    page.goto(listed.put(function, LIKE))
    page.route("**/click?*", fail)
    press(page, times=3)
    expect(note(page)).to_contain_text("3 clicks are waiting")
    wait_for(page, lambda: page.clock.run_for(1000) or stored(page) == 0)
    expect(count(page)).to_have_text("3")
    expect(note(page)).to_have_text("")
    assert function.count("post-1") == 3
    page.errors.clear()


def test_waiting_clicks_survive_a_site_that_clears_its_storage(function, listed, page):
    page.expected.append(OFFLINE)
    page.goto(listed.put(function, LIKE))
    has_value(page)
    page.context.set_offline(True)
    press(page, times=2)
    page.evaluate("localStorage.clear()")
    page.context.set_offline(False)
    expect(count(page)).to_have_text("2", timeout=8000)


REARRANGED = {
    "made, then filled, then put in": """element = document.createElement("click-counter");
        element.name = "x"; element.setAttribute("name", "post-1"); element.textContent = "Like";
        await later(); document.body.append(element)""",
    "changed when it is out": """element = document.querySelector("click-counter"); element.remove();
        await later(); element.textContent = "Like!"; await later(); document.body.append(element)""",
    "changed and taken out": """element = document.querySelector("click-counter"); element.textContent = "Like!";
        element.remove(); await later(); document.body.append(element)""",
    "cloned": """copy = document.body.cloneNode(true); await later(); document.body.replaceWith(copy)""",
    "made anew": """document.body.innerHTML = '<click-counter name="post-1">Like</click-counter>';
        await later(); document.body.innerHTML = '<click-counter name="post-1">Like</click-counter>'""",
    "moved by its own event": """document.body.append(document.createElement("ul"));
        addEventListener("click-counter-value", (event) => document.querySelector("ul").prepend(event.target))""",
    "renamed to and fro": """element = document.querySelector("click-counter"); element.setAttribute("name", "post-2");
        element.setAttribute("name", "post-1")""",
    "a form put in later": """element = document.querySelector("click-counter");
        element.innerHTML = '<div></div>'; await later();
        element.firstChild.innerHTML = '<form action="/click"><button>Like</button></form>'""",
}


def test_element_that_a_script_rearranges_goes_on(function, listed, page):
    page.expected.append("Both must name one counter")
    for script in REARRANGED.values():
        before = function.click("post-1").value
        page.goto(listed.put(function, LIKE))
        expect(count(page)).to_have_text(str(before))
        page.evaluate(f"(async () => {{ let element, copy; const later = () => new Promise(setTimeout); {script} }})()")
        last = page.locator("click-counter").last
        expect(last.locator("[part=count]")).to_have_text(str(before))
        last.get_by_role("button").click()
        expect(last.locator("[part=count]")).to_have_text(str(before + 1))
        expect(last.get_by_role("button")).to_have_count(1)
        assert function.count("post-1") == before + 1


def test_elements_that_come_again_and_again_do_not_ask_each_time(function, listed, page):
    asked = requests_of(page, "/value")
    page.goto(listed.put(function, LIKE))
    has_value(page)
    page.evaluate(
        """async () => { const element = document.querySelector("click-counter");
        for (let times = 0; times < 40; times += 1) {
            document.body.append(element); element.setAttribute("name", "post-1");
            await new Promise((done) => setTimeout(done, 25));
        } }"""
    )
    assert len(asked) == 1


def test_one_bad_name_among_many_costs_few_requests(function, listed, page):
    asked = requests_of(page, "/value")
    good = "".join(f'<click-counter name="post-{n}"></click-counter>' for n in range(49))
    page.goto(listed.put(function, good + '<click-counter name="not good"></click-counter>'))
    expect(note(page, 49)).to_have_text("There is no such counter.")
    has_value(page, 48)
    assert len(asked) == 1
    page.errors.clear()


def test_counter_that_is_permitted_later_is_found(function, listed, page):
    problem = {"status": 404, "headers": {"Access-Control-Allow-Origin": "*"}, "body": "{}"}
    page.route("**/value?*", lambda route: route.fulfill(content_type="application/problem+json", **problem))
    page.goto(listed.put(function, LIKE))
    expect(note(page)).to_have_text("There is no such counter.")
    page.unroute("**/value?*")
    press(page)
    expect(count(page)).to_have_text("1")
    expect(note(page)).to_have_text("")
    page.errors.clear()


def test_note_is_given_by_the_element_that_was_pressed(function, listed, page):
    page.expected.append(OFFLINE)
    page.goto(listed.put(function, 2 * LIKE))
    has_value(page)
    page.context.set_offline(True)
    press(page, 1)
    expect(note(page, 1)).to_contain_text("1 click is waiting")
    expect(note(page, 0)).to_have_text("")


def test_default_counter_and_its_name_are_one(function, listed, page):
    page.goto(listed.put(function, '<click-counter></click-counter><click-counter name="hello-world-button">'))
    has_value(page, 0)
    page.evaluate("addEventListener('click-counter-counted', () => (window.told = (window.told ?? 0) + 1))")
    press(page, 0)
    expect(count(page, 1)).to_have_text("1")
    assert page.evaluate("told") == 1


def test_other_form_inside_is_left_alone(function, listed, page):
    body = f"""<click-counter name="post-1"><form action="{listed.origin}/search"><button>Search</button></form>"""
    page.expected.append("no closing tag")
    listed.put(function, "Found", "/search")
    page.goto(listed.put(function, body))
    page.get_by_role("button", name="Search").click()
    expect(page).to_have_url(f"{listed.origin}/search?")
    assert function.count("post-1") == 0


def test_count_beyond_what_scripts_can_tell_apart_still_counts(function, listed, database, page):
    function.click("post-1")
    database.sql(f"update counter set value = {2**53}")
    page.goto(listed.put(function, LIKE))
    press(page)
    wait_for(page, lambda: function.count("post-1") == 2**53 + 1)
    wait_for(page, lambda: stored(page) == 0)
    expect(note(page)).not_to_contain_text("waiting")


def test_events_tell_what_happens(function, listed, page):
    page.expected.append(OFFLINE)
    page.add_init_script(
        """window.events = []; for (const event of ["value", "counted", "waiting", "refused"])
        addEventListener(`click-counter-${event}`, ({ detail }) => events.push([event, detail]))"""
    )
    page.goto(listed.put(function, LIKE))
    has_value(page)
    press(page)
    expect(count(page)).to_have_text("1")
    wait_for(page, lambda: len(page.evaluate("events")) == 3)
    assert page.evaluate("events") == [
        ["value", {"name": "post-1", "value": 0}],
        ["value", {"name": "post-1", "value": 1}],
        ["counted", {"name": "post-1", "value": 1}],
    ]
    page.context.set_offline(True)
    press(page)
    wait_for(page, lambda: page.evaluate("events").pop() == ["waiting", {"name": "post-1", "waiting": 1}])


def test_readonly_element_only_shows(function, listed, page):
    function.click("post-1")
    hidden = "<style>#x form, button, form { display: inline-block }</style>"  # not undone by the page's rules
    form = f'<form method="post" action="{function.url}/click?name=post-1"><button>Like</button></form>'
    page.goto(
        listed.put(
            function, f'<click-counter name="post-1" readonly>Likes: <div>{form}</div></click-counter>', head=hidden
        )
    )
    expect(count(page)).to_have_text("1")
    expect(element(page).get_by_role("button")).to_have_count(0)
    page.evaluate("document.querySelector('click-counter').removeAttribute('readonly')")
    press(page)
    expect(count(page)).to_have_text("2")


def test_history_is_shown_on_other_sites_too(function, listed, page):
    listed.headers["Content-Security-Policy"] = (
        f"default-src 'none'; img-src data:; script-src {function.url}; connect-src {function.url}"
    )
    page.goto(listed.put(function, '<click-counter name="post-1" history>Like</click-counter>'))
    expect(page.get_by_text("No clicks in the last 30 days.")).to_be_visible()
    press(page)
    expect(page.get_by_text("1 click in the last 30 days")).to_be_visible()


def test_output_and_format_of_the_page_are_used(function, listed, page):
    body = '<click-counter name="post-1" format="{} likes"><p>So far: <output></output></p></click-counter>'
    page.goto(listed.put(function, body))
    expect(page.get_by_text("So far: 0 likes")).to_be_visible()
    expect(count(page)).to_have_count(0)
    page.evaluate("document.querySelector('click-counter').setAttribute('format', '{}!')")
    expect(page.get_by_text("So far: 0!")).to_be_visible()


def test_element_without_text_has_a_button_with_a_name(function, listed, page):
    page.goto(listed.put(function, '<click-counter name="post-1"> <noscript>No</noscript></click-counter>'))
    element(page).get_by_role("button", name="Like").click()
    expect(count(page)).to_have_text("1")


def test_element_that_a_script_makes_and_renames(function, listed, page):
    function.click("post-2")
    page.goto(listed.put(function, "<p></p>"))
    page.evaluate(
        """window.element = document.createElement("click-counter"); element.setAttribute("name", "post-1");
        document.querySelector("p").append(element); element.append("Like")"""
    )
    press(page)
    expect(count(page)).to_have_text("1")
    page.evaluate("element.setAttribute('name', 'post-2')")
    expect(count(page)).to_have_text("1")
    press(page)
    expect(count(page)).to_have_text("2")
    page.evaluate("element.remove(); document.body.append(element)")
    press(page)
    expect(count(page)).to_have_text("3")
    assert [function.count("post-1"), function.count("post-2")] == [1, 3]


def form(function, site, path="/post?a=1&amp;b=2#c"):
    return f"""<click-counter name="post-1"><form method="post" action="{function.url}/click?name=post-1">
        <input type="hidden" name="return" value="{site.origin}{path}"><button>Like</button></form></click-counter>"""


def test_form_inside_is_sent_by_the_element(function, listed, page):
    page.goto(listed.put(function, form(function, listed)))
    press(page, times=2)
    expect(count(page)).to_have_text("2")
    assert page.url == f"{listed.origin}/post"


def test_form_inside_works_without_javascript_and_comes_back(function, listed, browser):
    context = browser.new_context(java_script_enabled=False)
    page = context.new_page()
    page.goto(listed.put(function, form(function, listed)))
    page.get_by_role("button", name="Like").click()
    expect(page).to_have_url(f"{listed.origin}/post?a=1&b=2#c")
    wait_for(page, lambda: function.count("post-1") == 1)
    context.close()


def test_form_works_with_the_policies_of_the_readme(function, listed, browser):
    context = browser.new_context(java_script_enabled=False)
    page = context.new_page()
    policies = ("strict-origin-when-cross-origin", "strict-origin", "origin", "unsafe-url")
    for clicks, policy in enumerate(policies, 1):
        listed.headers |= {
            "Referrer-Policy": policy,
            "Content-Security-Policy": f"default-src 'none'; form-action 'self' {function.url}",
        }
        page.goto(listed.put(function, form(function, listed)))
        page.get_by_role("button", name="Like").click()
        expect(page).to_have_url(f"{listed.origin}/post?a=1&b=2#c")
        assert (policy, function.count("post-1")) == (policy, clicks)
    context.close()


def test_form_of_a_site_that_is_not_listed_counts_nothing(function, unlisted, browser):
    context = browser.new_context(java_script_enabled=False)
    page = context.new_page()
    page.goto(unlisted.put(function, form(function, unlisted)))
    with page.expect_response("**/click*") as response:
        page.get_by_role("button", name="Like").click()
    assert response.value.status == 403
    assert function.count("post-1") == 0
    context.close()


def test_policy_of_the_readme_is_enough_for_a_site_with_a_strict_one(function, listed, page):
    listed.headers["Content-Security-Policy"] = (
        "default-src 'none'; require-trusted-types-for 'script'; "
        f"script-src 'self' {function.url}; connect-src 'self' {function.url}; img-src 'self' data: {function.url}; "
        f"form-action 'self' {function.url}"
    )
    page.goto(listed.put(function, form(function, listed) + f'<img alt="" src="{function.url}/badge.svg?name=post-1">'))
    press(page)
    expect(count(page)).to_have_text("1")
    assert page.evaluate("document.querySelector('img').naturalWidth") > 20


OWN_LOOK = """<meta name=color-scheme content="light dark"><style>
    body { font: 22px/1.6 serif; background: #fdf3e7; color: #5a2a00; max-width: 30em; margin: 1em auto }
    @media (prefers-color-scheme: dark) { body { background: #20123a; color: #e9dcff } }
    .own { --click-counter-background: #7a1fa2; --click-counter-color: #fff; --click-counter-radius: 2em;
           --click-counter-border: transparent }
    .parts::part(count) { font-weight: bold } .parts::part(button) { letter-spacing: 0.1em }
    </style>"""


@pytest.mark.parametrize(("width", "scheme"), [(1280, "light"), (320, "dark")])
def test_element_suits_a_page_with_a_look_of_its_own(function, listed, page, scheme, width, request):
    page.emulate_media(color_scheme=scheme)
    page.set_viewport_size({"width": width, "height": 480})
    body = f"""<main><h1>A post</h1><p>Some words, and then {LIKE}</p>
        <p><click-counter class=own name=post-2>Well done</click-counter>
        <click-counter class=parts name=post-3>Applaud</click-counter></p><div>{form(function, listed)}</div>
        <p><click-counter readonly name=post-1>Likes:</click-counter></p></main>"""
    page.goto(listed.put(function, body, head=f'<meta name="viewport" content="width=device-width">{OWN_LOOK}'))
    has_value(page, 4)
    press(page, 0)
    expect(count(page, 4)).to_have_text("1")
    page.mouse.move(0, 0)
    style = "([index, selector]) => getComputedStyle(document.querySelectorAll('click-counter')[index].shadowRoot.%s)"
    style %= "querySelector(selector)"
    ink = page.evaluate("getComputedStyle(document.body).color")
    assert page.evaluate(f"({style})([0, 'button']).color") == ink
    assert page.evaluate(f"({style})([0, 'button']).fontSize") == "22px"
    assert page.evaluate(f"({style})([1, 'button']).backgroundColor") == "rgb(122, 31, 162)"
    assert page.evaluate(f"({style})([2, 'output']).fontWeight") == "700"
    assert page.evaluate("getComputedStyle(document.querySelector('form button')).fontSize") == "22px"
    check_accessibility(page)
    assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")
    if request.config.getoption("--update"):
        page.screenshot(path=PICTURES / f"embedded-{scheme}-{width}.png")


# --- embed.html -------------------------------------------------------------------------------------------------


def test_lines_of_the_embed_page_work_on_a_site(function, listed, page):
    page.goto(f"{function.url}/embed.html")
    expect(page.get_by_label("Counter", exact=True)).to_have_value("hello-world-button")
    page.get_by_label("Counter", exact=True).fill("post-7")
    page.get_by_label("Text on the button").fill('Clap & "cheer"')
    page.get_by_label("Page that it goes on").fill(f"{listed.origin}/pasted?x=1&y=2")
    expect(page.locator("#snippet")).to_contain_text("return")
    expect(element(page)).to_have_attribute("name", "post-7")
    press(page)
    expect(count(page)).to_have_text("1")
    lines, picture = page.locator("#snippet").inner_text(), page.locator("#html").inner_text()
    assert page.locator("#setting").inner_text() == f"ALLOWED_ORIGINS=…,{listed.origin}"
    assert page.locator("#markdown").inner_text().startswith('![Clap & "cheer"](')
    listed.pages["/pasted"] = f"<!doctype html>{ICON}{lines}{picture}"
    page.goto(f"{listed.origin}/pasted?x=1&y=2")
    expect(count(page)).to_have_text("1")
    page.get_by_role("button", name='Clap & "cheer"').click()
    expect(count(page)).to_have_text("2")
    assert page.evaluate("document.querySelector('img').naturalWidth") > 50


def test_embed_page_offers_all_that_the_element_can_do(function, listed, page):
    page.goto(f"{function.url}/embed.html?name=post-7")
    has_value(page)
    expect(page.get_by_label("Each visitor counts once")).to_be_checked()
    page.get_by_label("Show the last 30 days").check()
    page.get_by_label("Count in words").fill('{} "clap"|{} "claps"')
    rule = page.get_by_text("into your own style sheet")
    expect(rule).to_be_hidden()
    page.get_by_label("Colours of its own").check()
    expect(rule).to_be_visible()
    page.get_by_label("Page that it goes on").fill(f"{listed.origin}/pasted")
    expect(page.locator("#snippet")).to_contain_text("return")
    lines = page.locator("#snippet").inner_text()
    assert '<click-counter name="post-7" format="{} &quot;clap&quot;|{} &quot;claps&quot;" single history>' in lines
    expect(count(page)).to_have_text('0 "claps"')
    command = page.locator("#command").inner_text()
    assert command.endswith(f'\nALLOWED_ORIGINS="$(listed ALLOWED_ORIGINS),{listed.origin}" ./deploy.sh')
    listed.pages["/pasted"] = f"<!doctype html>{ICON}{lines}"
    page.goto(f"{listed.origin}/pasted")
    press(page)
    expect(count(page)).to_have_text('1 "clap"')
    expect(element(page).get_by_role("button")).to_have_attribute("aria-pressed", "true")
    expect(page.get_by_text("1 click in the last 30 days")).to_be_visible()
    color = "(button) => getComputedStyle(button).backgroundColor"
    assert element(page).get_by_role("button").evaluate(color) == "rgb(29, 107, 82)"


def test_embed_page_copies_each_of_its_lines(function, page):
    page.context.grant_permissions(["clipboard-read", "clipboard-write"])
    page.goto(f"{function.url}/embed.html?name=post-1")
    expect(page.locator("#snippet")).to_contain_text('name="post-1"')
    for what in ("snippet", "command", "setting", "policy", "html", "markdown"):
        copy = page.locator(f"[data-copies={what}]")
        copy.click()
        expect(copy).to_have_text("Copied")
        assert page.evaluate("navigator.clipboard.readText()") == page.locator(f"#{what}").inner_text()


def test_embed_page_without_javascript_shows_nothing_that_needs_it(function, browser):
    context = browser.new_context(java_script_enabled=False)
    page = context.new_page()
    page.goto(f"{function.url}/embed.html")
    expect(page.locator("noscript p")).to_be_visible()
    for role in ("button", "textbox", "checkbox"):
        assert page.get_by_role(role).count() == 0
    context.close()


def test_embed_page_says_what_is_wrong_with_a_name(function, page):
    page.goto(f"{function.url}/embed.html?name=post-1")
    has_value(page)
    page.get_by_label("Counter", exact=True).fill("not good")
    expect(page.locator("#hint")).to_contain_text("1 to 100 characters")
    expect(page.locator("#snippet")).to_be_hidden()
    for name in ("nothing", "post-2", "nothing"):
        page.get_by_label("Counter", exact=True).fill(name)
        expect(page.locator("#snippet")).to_contain_text(f'name="{name}"')
        expect(page.locator("#hint")).to_contain_text("must be listed in COUNTERS" if name == "nothing" else "")
        expect(page.locator("#preview")).to_be_visible(visible=name != "nothing")
        if name == "nothing":  # the lines that list it stay in sight, and add to what is listed
            expect(page.locator("#command")).to_be_visible()
            added = (
                'COUNTERS="hello-world-button,$(listed COUNTERS),nothing" ALLOWED_ORIGINS="$(listed ALLOWED_ORIGINS),'
            )
            expect(page.locator("#command")).to_contain_text(added)
            expect(page.locator("#setting")).to_contain_text("COUNTERS=…,nothing")
    page.get_by_label("Counter", exact=True).fill("post-2")
    expect(page.locator("#setting")).not_to_contain_text("COUNTERS")
    page.get_by_label("Only show the count").check()
    expect(page.locator("#snippet")).to_contain_text('<click-counter name="post-2" readonly></click-counter>')
    for address in ("example.com/post", "mailto:me@example.com", "ftp://example.com/"):
        page.get_by_label("Page that it goes on").fill(address)
        expect(page.locator("#page-hint")).to_contain_text("Write the whole address")
        expect(page.locator("#setting")).to_have_text("ALLOWED_ORIGINS=…,https://example.com")
    assert all("404" in error for error in page.errors)
    page.errors.clear()


@pytest.mark.parametrize(("width", "scheme"), [(1280, "light"), (320, "dark")])
def test_embed_page_is_accessible_and_fits(function, page, scheme, width, request):
    page.emulate_media(color_scheme=scheme)
    page.set_viewport_size({"width": width, "height": 700})
    page.goto(f"{function.url}/embed.html?name=post-1")
    has_value(page)
    check_accessibility(page)
    assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")
    if request.config.getoption("--update"):
        page.screenshot(path=PICTURES / f"embed-{scheme}-{width}.png", full_page=True)


# --- The badge --------------------------------------------------------------------------------------------------

VALUES = [1, 999_999, 12_345_678_901]
LABELS = ["clicks", "", "WWWWW mmmmm", "iiiiiillll.,.,", "<b>&amp;'\"", "\u00fcber", "\u8a2a\u554f \U0001f44b"]


def test_badge_holds_its_text_without_clipping(function, listed, database, page, request):
    function.click("post-1")
    page.goto(f"{function.url}/")
    for value in VALUES:
        database.sql(f"update counter set value = {value} where name = 'post-1'")
        for label in LABELS:
            fits = page.evaluate(
                """async (label) => {
                    const url = "badge.svg?name=post-1&label=" + encodeURIComponent(label);
                    const svg = new DOMParser().parseFromString(await (await fetch(url)).text(), "image/svg+xml");
                    document.body.replaceChildren(svg.documentElement);
                    const box = (node) => node.getBoundingClientRect();
                    const within = (a, b) =>
                        a.left >= b.left + 3 && a.right <= b.right - 3 && a.top >= b.top && a.bottom <= b.bottom;
                    const grounds = [...document.querySelectorAll("g[clip-path] rect")]
                        .map(box).filter((ground) => ground.width);
                    const texts = [...document.querySelectorAll("text")];
                    return [texts.map((text) => text.textContent), texts.length === grounds.length,
                        texts.every((text, index) => within(box(text), grounds[index]))];
                }""",
                label,
            )
            assert fits == [[*([label] if label else []), f"{value:,}"], True, True], (label, value)
    if request.config.getoption("--update"):
        rows = "".join(
            f'<p><img src="{function.url}/badge.svg?name=post-1&label={label}&color={color}"></p>'
            for label, color in (("clicks", "1d6b52"), ("visits", "blue"), ("likes", "ffd866"), ("", "red"))
        )
        page.goto(listed.put(function, rows))
        page.screenshot(path=PICTURES / "badges.png", clip={"x": 0, "y": 0, "width": 240, "height": 170})
