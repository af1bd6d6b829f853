"""The page as a person uses it."""
import json

import pytest
from browser import Page
from processes import until
from selenium.webdriver.common.action_chains import ActionChains
from selenium.webdriver.common.keys import Keys

HOSTILE = """<script>window.hacked = 1</script><img src=x onerror="window.hacked = 1">
[click](javascript:window.hacked=1) **bold** <b>not bold</b>

```html
<script>window.hacked = 1</script>
```"""


def test_a_conversation_streams_and_is_kept_over_a_reload(page):
    first = page.ask("Hello")
    second = page.ask("And then?", count=2)
    assert first and second and first != second
    assert page.texts("user") == ["Hello", "And then?"]
    figures = page.one(".assistant .figures").text
    assert "24 tokens" in figures and "s to first token" in figures and "tok/s" in figures
    assert "tokens of context" in page.one("#context").text

    page.browser.refresh()
    page.ready()
    assert page.texts("assistant") == [first, second]
    assert page.one("#title").text == "Hello"


def test_conversations_have_sessions_of_their_own(page):
    page.ask("One")
    page.click("#new-chat")
    assert page.one("#empty").is_displayed()
    page.ask("Two")
    kept = page.conversations()
    assert {each["title"] for each in kept} == {"One", "Two"}
    assert len({each["session"] for each in kept}) == 2

    page.until(lambda: [item.click() for item in page.all("#conversations .open") if item.text == "One"])
    assert page.texts("user") == ["One"]
    page.click("#conversations .current [data-action=delete]")
    page.click("#confirm .danger")
    page.until(lambda: len(page.conversations()) == 1)
    assert page.one("#empty").is_displayed()


def test_a_conversation_is_renamed(page):
    page.ask("Hello")
    page.click("#conversations [data-action=rename]")
    page.one("#conversations input").send_keys("Greetings", Keys.ENTER)
    page.until(lambda: page.one("#title").text == "Greetings")
    assert page.conversations()[0]["title"] == "Greetings"


@pytest.mark.parametrize("how", ["button", "escape"])
def test_stop_keeps_what_has_come_and_frees_the_worker(page, cluster, how):
    page.set_longest(8192)
    page.send("Go on forever")
    page.until(lambda: len(page.texts("assistant")[-1]) > 20)
    if how == "button":
        page.click("#stop")
    else:
        page.one("#prompt").send_keys(Keys.ESCAPE)
    text = page.answer()
    assert len(text) > 20
    assert "Stopped." in page.one(".assistant .notes").text
    assert "about" in page.one(".assistant .figures").text
    until(lambda: cluster.running() == 0)
    page.browser.refresh()
    assert page.ready().texts("assistant") == [text]


def test_a_reload_in_mid_answer_keeps_what_has_come(page):
    page.set_longest(8192)
    page.send("Go on forever")
    page.until(lambda: len(page.texts("assistant")[-1]) > 20)
    page.browser.refresh()
    assert len(page.ready().answer()) > 20
    assert "Stopped." in page.one(".assistant .notes").text


def test_regenerate_adds_a_version_and_both_can_be_read(page):
    first = page.ask("Hello")
    page.click(".assistant [data-action=regenerate]")
    page.until(lambda: "2 / 2" in page.one(".assistant .versions").text)
    second = page.answer()
    assert second != first
    page.click(".assistant [data-action=previous-version]")
    page.until(lambda: page.texts("assistant") == [first])
    page.browser.refresh()
    assert page.ready().texts("assistant") == [first]


# Notes the session of each answer that is asked for.
NOTE_SESSIONS = """
window.sessions = [];
const real = window.fetch;
window.fetch = (path, options) => {
  if (path === "v1/chat/completions") window.sessions.push(options.headers["X-Session-Id"]);
  return real(path, options);
};
"""


def sessions_asked(page):
    return page.script("return window.sessions")


def forks(page):
    """How often the gateway was asked for a branch."""
    return page.script("return performance.getEntriesByType('resource').filter(e => e.name.endsWith('/v1/sessions/fork')).length")


def test_an_edit_branches_and_the_old_branch_stays(page):
    page.script(NOTE_SESSIONS)
    old = [page.ask("Red"), page.ask("More", count=2)]
    page.script("document.querySelector('.user [data-action=edit]').click()")
    page.one(".edit textarea").send_keys(Keys.END, "dish")
    page.click("[data-action=send-edit]")
    page.until(lambda: page.texts("user") == ["Reddish"])
    assert page.answer() not in old
    assert page.one(".user .versions").text.strip() == "2 / 2"
    (conversation,) = page.conversations()
    branch = conversation["messages"][conversation["head"]]["parent"]
    assert conversation["messages"][branch]["session"].startswith(conversation["session"] + "~")
    assert sessions_asked(page) == [conversation["session"]] * 2 + [conversation["messages"][branch]["session"]]
    page.click(".user [data-action=previous-version]")
    page.until(lambda: page.texts("user") == ["Red", "More"])
    assert page.texts("assistant") == old
    page.ask("Back", count=3)
    assert sessions_asked(page)[-1] == conversation["session"]


def test_a_branch_becomes_a_conversation_on_the_same_worker(page):
    page.ask("Hello")
    worker = page.one(".assistant .figures").text.split(" · ")[-1]
    page.click(".assistant [data-action=branch]")
    page.until(lambda: page.one("#title").text == "Hello (branch)")
    assert forks(page) == 1
    page.ask("On my own", count=2)
    assert page.one(".assistant .figures").text.split(" · ")[-1] == worker
    parent, branch = sorted(page.conversations(), key=lambda each: len(each["messages"]))
    assert branch["session"].startswith(parent["session"] + "~")


def test_settings_reach_the_request(page):
    page.click("#open-settings")
    page.one("#system").send_keys("Be brief.")
    page.script("const t = document.querySelector('#temperature'); t.value = 0.2; t.dispatchEvent(new Event('input'))")
    assert page.one("output[for=temperature]").text == "0.2"
    page.click("#settings .primary")
    page.script(
        "const real = fetch;"
        "window.fetch = (path, options) => { if (options?.body) window.sent = JSON.parse(options.body); return real(path, options); }"
    )
    page.ask("Hello")
    sent = page.script("return window.sent")
    assert sent["messages"][0] == {"role": "system", "content": "Be brief."}
    assert (sent["temperature"], sent["max_tokens"], sent["top_p"]) == (0.2, 24, 0.95)
    assert "token limit" in page.one(".assistant .notes").text


def test_sliders_move_by_keys_and_tell_their_values(page):
    page.click("#open-settings")
    page.click("#reset-settings")
    sliders = (("temperature", "Temperature", "2", "2"), ("top-p", "Top p", "1", "1"), ("max-tokens", "Longest answer", "8192", "8192 tokens"))
    for name, label, end, told in sliders:
        slider = page.one("#" + name)
        assert slider.accessible_name == label
        before = float(page.one(f"output[for={name}]").text)
        slider.send_keys(Keys.ARROW_RIGHT)
        assert float(page.one(f"output[for={name}]").text) > before
        slider.send_keys(Keys.END)
        assert page.one(f"output[for={name}]").text == end
        assert slider.get_attribute("aria-valuetext") == told
    settings = json.loads(page.script("return localStorage['berth.settings']"))
    assert (settings["temperature"], settings["topP"], settings["maxTokens"]) == (2, 1, 8192)


def test_the_keys_of_the_help_work(page):
    def press(*keys):
        chord = ActionChains(page.browser)
        for key in keys[:-1]:
            chord.key_down(key)
        chord.send_keys(keys[-1])
        for key in keys[:-1]:
            chord.key_up(key)
        chord.perform()

    def focused():
        return page.script("return document.activeElement.id")

    page.ask("Hello")
    page.script("document.activeElement.blur()")
    press("?")
    told = page.one("#help").text
    for words in ("Ctrl+Shift+O\nNew conversation", "/\nGo to the message box", "Esc\nStop the answer", "Ctrl+,\nSettings"):
        assert words in told
    press(Keys.CONTROL, ",")  # a dialog has the keys for itself
    assert not page.script("return document.querySelector('#settings').open")
    press(Keys.ESCAPE)
    page.until(lambda: not page.script("return document.querySelector('#help').open"))
    page.script("document.activeElement.blur()")
    press("/")
    assert focused() == "prompt" and page.one("#prompt").get_attribute("value") == ""
    press("?")  # where one types it is a letter
    assert page.one("#prompt").get_attribute("value") == "?"
    press(Keys.CONTROL, ",")
    assert page.script("return document.querySelector('#settings').open")
    press(Keys.ESCAPE)
    press(Keys.CONTROL, Keys.SHIFT, "O")
    page.until(lambda: page.one("#title").text == "New conversation" and focused() == "prompt")


def test_script_in_model_output_is_text(page):
    page.choose_answer(HOSTILE)
    shown = page.ask("<img src=x onerror='window.hacked = 1'>")
    assert '<script>window.hacked = 1</script><img src=x onerror="window.hacked = 1">' in shown
    assert "<b>not bold</b>" in shown
    assert page.one(".assistant strong").text == "bold"
    assert page.one(".assistant pre").text == "<script>window.hacked = 1</script>"
    assert page.all(".text script, .text img, .text b, .text a") == []
    page.browser.refresh()
    assert page.ready().texts("assistant") == [shown]
    assert page.script("return window.hacked") is None


def test_markdown(page):
    page.choose_answer(
        "# Title\n\n1. one\n   - inner *it*\n2. two\n\n|a|b|\n|-|-:|\n|1|`2`|\n\n> quote\n\n"
        "see https://example.org/x_y, 2*3*4 a_b_c ***both***\n\n```python\nprint(1)\n"
    )
    page.ask("Hello")
    count = lambda selector: len(page.all(".assistant .text " + selector))  # noqa: E731
    assert count("> h3") == 1 and count("ol > li") == 2 and count("ol ul em") == 1
    assert count("th") == 2 and count("td.align-right code") == 1 and count("blockquote p") == 1
    assert page.one(".assistant a").get_attribute("href") == "https://example.org/x_y"
    assert "2*3*4 a_b_c both" in page.texts("assistant")[0] and count("strong em") == 1
    assert page.one(".code code").text == "print(1)"
    page.browser.execute_cdp_cmd("Browser.grantPermissions", {"permissions": ["clipboardReadWrite", "clipboardSanitizedWrite"]})
    page.click(".copy-code")
    page.until(lambda: page.one(".copy-code").text == "Copied")
    assert page.script("return navigator.clipboard.readText()") == "print(1)"


def test_a_lost_worker_is_told_and_the_answer_goes_on(page, cluster):
    page.set_longest(512)
    page.send("Hello")
    page.until(lambda: len(page.texts("assistant")[-1]) > 20)
    # Nothing but the session's place tells where it runs.
    lost = page.until(cluster.busy)[0]
    cluster.workers.pop(lost).kill()
    page.answer()
    (left,) = cluster.workers
    assert f"{left} took over and the answer went on without a gap" in page.one(".assistant .notes").text
    figures = page.one(".assistant .figures").text
    assert "512 tokens" in figures and figures.endswith(left)


def test_a_server_that_is_gone_is_told_and_asked_again(page):
    offline = lambda value: page.browser.execute_cdp_cmd(  # noqa: E731
        "Network.emulateNetworkConditions", {"offline": value, "latency": 0, "downloadThroughput": -1, "uploadThroughput": -1}
    )
    page.browser.execute_cdp_cmd("Network.enable", {})
    offline(True)
    page.send("Hello")
    assert "cannot be reached" in page.one(".assistant .problem").text
    offline(False)
    page.click(".problem [data-action=retry]")
    page.until(lambda: page.all(".versions") and not page.all(".problem"))
    assert page.answer()
    page.browser.get_log("browser")


def test_an_error_of_the_server_is_shown(page):
    page.click("#open-settings")
    page.one("#system").send_keys("x")
    page.click("#settings .primary")
    page.script("document.querySelector('#prompt').value = 'word '.repeat(4000)")
    page.script("document.querySelector('#composer').requestSubmit()")
    assert "context" in page.one(".assistant .problem").text
    page.browser.get_log("browser")


def test_a_key_is_asked_for_and_models_can_be_chosen(page, cluster):
    cluster.start_worker("other", "--model-name", "another-model")
    guarded = cluster.start_gateway("guarded", cluster.addresses(), "--api-keys", "secret")
    page = Page(page.browser, f"http://127.0.0.1:{guarded.ready['http_port']}")
    assert "API key" in page.one("#banner").text
    page.click("#banner-action")
    page.one("#key").send_keys("secret")
    page.click("#settings .primary")
    page.ready().set_longest(8)
    assert not page.one("#model").get_attribute("hidden")
    page.one("#model").send_keys("another-model")
    assert page.ask("Hello")
    assert page.one(".assistant .figures").text.endswith("other")
    page.browser.get_log("browser")


@pytest.fixture
def tabs(page):
    """Looks at the first tab of the page or at the second, which show the conversation that the first began with."""
    page.ask("Hello")
    address = page.browser.current_url
    handles = [page.browser.current_window_handle]
    page.browser.switch_to.new_window("tab")
    handles.append(page.browser.current_window_handle)
    look_at = lambda tab: page.browser.switch_to.window(handles[tab])  # noqa: E731
    Page(page.browser, address).ready()
    look_at(0)
    yield look_at
    look_at(1)
    page.browser.close()
    look_at(0)


# Notes the keys that other tabs changed, once the page has taken note itself.
NOTE_CHANGES = "window.changed = []; addEventListener('storage', ({key}) => changed.push(key))"


def test_an_edit_outlives_what_other_tabs_do(page, tabs):
    page.script(NOTE_CHANGES)
    page.script("document.querySelector('.user [data-action=edit]').click()")
    page.one(".edit textarea").send_keys(Keys.END, ", world")
    tabs(1)
    page.script("localStorage['berth.theme'] = 'dark'")
    page.click("#new-chat")
    page.ask("Elsewhere")
    page.until(lambda: [item.click() for item in page.all("#conversations .open") if item.text == "Hello"])
    page.ask("More", count=2)
    tabs(0)
    page.until(lambda: len(page.script("return changed")) >= 5)
    assert page.one(".edit textarea").get_attribute("value") == "Hello, world"
    page.until(lambda: len(page.all("#conversations li")) == 2)
    page.click("[data-action=send-edit]")
    page.until(lambda: page.texts("user") == ["Hello, world"])
    page.answer()
    texts = {message["text"] for each in page.conversations() for message in each["messages"].values()}
    assert {"Hello", "More", "Hello, world", "Elsewhere"} <= texts


def test_what_another_tab_says_is_shown(page, tabs):
    tabs(1)
    page.ask("More", count=2)
    tabs(0)
    page.until(lambda: page.texts("user") == ["Hello", "More"] and page.answer(count=2))


# What a tab stores itself it is not told: as if another tab's word were still on its way.
def test_turns_of_two_tabs_are_both_kept(page):
    page.ask("Hello")
    (other,) = page.conversations()
    parent = other["head"]
    other["messages"] |= {
        "q": {"id": "q", "parent": parent, "role": "user", "text": "More", "created": 1},
        "a": {"id": "a", "parent": "q", "role": "assistant", "text": "Much more", "created": 2, "status": "done"},
    }
    page.script("localStorage[arguments[0]] = arguments[1]", f"berth.chat.{other['id']}", json.dumps({**other, "head": "a"}))
    assert page.ask("Less", count=2)
    (conversation,) = page.conversations()
    texts = [message["text"] for message in conversation["messages"].values()]
    assert {"Hello", "More", "Much more", "Less"} <= set(texts) and all(texts)
    page.browser.refresh()
    assert page.ready().texts("user") == ["Hello", "Less"]


@pytest.mark.parametrize("told", [True, False])
def test_what_another_tab_deletes_does_not_come_back(page, tabs, cluster, told):
    page.click("#open-settings")
    page.script("const t = document.querySelector('#max-tokens'); t.value = 8192; t.dispatchEvent(new Event('input'))")
    page.click("#settings .primary")
    page.send("Go on forever")
    page.until(lambda: len(page.texts("assistant")[-1]) > 20)
    if told:
        tabs(1)
        page.click("#conversations [data-action=delete]")
        page.click("#confirm .danger")
        page.until(lambda: page.conversations() == [])
        tabs(0)
        page.until(lambda: page.one("#title").text == "New conversation")
    else:
        page.script("Object.keys(localStorage).filter(k => k.startsWith('berth.chat.')).forEach(k => localStorage.removeItem(k))")
        page.click("#stop")
        page.answer(count=2)
    until(lambda: cluster.running() == 0)
    assert page.conversations() == []
