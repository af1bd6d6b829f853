"""What the page owes to everyone: safe headers, little weight, labels, contrast, room on a phone."""
import http.client

import pytest
from selenium.webdriver.common.keys import Keys

LABELLED = "button, input, select, textarea, a, [role=log], [role=group], dialog, nav, img, pre"

# The texts whose contrast with their background is too low: WCAG's ratio, 4.5 for text.
LOW_CONTRAST = """
const luminance = ([r, g, b]) => {
  const [x, y, z] = [r, g, b].map(v => v / 255).map(v => v <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4);
  return 0.2126 * x + 0.7152 * y + 0.0722 * z;
};
const parse = colour => colour.match(/[\\d.]+/g).map(Number);
const ground = element => {
  for (let e = element; e; e = e.parentElement) {
    const colour = parse(getComputedStyle(e).backgroundColor);
    if (colour.length === 3 || colour[3] === 1) return colour;
  }
  return [255, 255, 255];
};
const low = [];
for (const element of document.querySelectorAll("body *")) {
  const own = [...element.childNodes].some(node => node.nodeType === 3 && node.data.trim());
  const isIcon = element.matches("button.icon, button.round");
  if (!own && !isIcon || !element.checkVisibility({opacityProperty: true, visibilityProperty: true})) continue;
  if (element.disabled || element.tagName === "OPTION") continue;
  const [a, b] = [luminance(parse(getComputedStyle(element).color)), luminance(ground(element))].sort((x, y) => y - x);
  const ratio = (a + 0.05) / (b + 0.05);
  if (ratio < 4.5) low.push(`${element.tagName} ${element.className} ${element.textContent.slice(0, 30)}: ${ratio.toFixed(2)}`);
}
return low;
"""

RICH = "# Title\n\ntext [link](https://example.org) `code`\n\n> quote\n\n```c\nint x;\n```\n\n| a | b |\n|---|---|\n| 1 | 2 |"


def get(cluster, path, **headers):
    connection = http.client.HTTPConnection("127.0.0.1", cluster.gateway.ready["http_port"], timeout=30)
    connection.request("GET", path, headers={name.replace("_", "-"): value for name, value in headers.items()})
    response = connection.getresponse()
    body = response.read()
    connection.close()
    return response, body


@pytest.mark.parametrize("path", ["/", "/web/app.js", "/web/style.css", "/web/icon.svg"])
def test_files_have_safe_headers_and_are_sent_once(cluster, path):
    response, body = get(cluster, path)
    assert response.status == 200 and body
    policy = response.headers["Content-Security-Policy"]
    assert "default-src 'none'" in policy and "unsafe" not in policy
    assert response.headers["X-Content-Type-Options"] == "nosniff"
    assert response.headers["Cache-Control"] == "no-cache"
    again, body = get(cluster, path, If_None_Match=response.headers["ETag"])
    assert again.status == 304 and body == b""
    assert get(cluster, path, If_None_Match='"another"')[0].status == 200


@pytest.mark.parametrize("path", ["/web/", "/web/../gateway.cc", "/web/%2e%2e/app.js", "/index.html", "//web/app.js"])
def test_there_is_nothing_beside_the_files(cluster, path):
    assert get(cluster, path)[0].status == 404


def test_other_methods_are_refused(cluster):
    status, _, answer = cluster.post("/", {})
    assert status == 405 and "not allowed" in answer["error"]["message"]


def test_the_page_is_light_and_needs_nobody_else(page):
    page.ask("Hello")
    entries = page.script(
        "return performance.getEntriesByType('navigation').concat(performance.getEntriesByType('resource'))"
        ".map(e => [e.name, e.decodedBodySize])"
    )
    assert all(name.startswith(page.url) for name, _ in entries), entries
    files = [size for name, size in entries if "/v1/" not in name]
    assert len(files) >= 10 and sum(files) < 150_000, entries


def show_everything(page):
    page.choose_answer(RICH, comment=": resumed on w1")
    page.ask("Hello")
    page.script(
        "const c = JSON.parse(localStorage[Object.keys(localStorage).find(k => k.startsWith('berth.chat.'))]);"
        "const m = Object.values(c.messages).at(-1); m.status = 'failed'; m.error = {kind: 'refused', message: 'no room'};"
        "m.reasoning = 'because'; m.cut = true; localStorage['berth.chat.' + c.id] = JSON.stringify(c)"
    )
    page.browser.refresh()
    page.ready().one(".problem")
    page.script("document.querySelector('#banner').hidden = false; document.querySelector('#banner-text').textContent = 'x'")
    page.script("document.querySelector('#banner-action').textContent = 'Again'")


@pytest.mark.parametrize("theme", ["light", "dark"])
def test_contrast(page, theme):
    page.script("localStorage['berth.theme'] = arguments[0]", theme)
    page.browser.refresh()
    page.ready()
    assert page.script("return getComputedStyle(document.documentElement).colorScheme") == theme
    assert page.script(LOW_CONTRAST) == []
    show_everything(page)
    assert page.script(LOW_CONTRAST) == []
    page.click("#open-settings")
    assert page.script(LOW_CONTRAST) == []


def test_the_theme_follows_the_system_until_it_is_switched(page):
    ground = lambda: page.script("return getComputedStyle(document.documentElement).backgroundColor")  # noqa: E731
    page.browser.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": [{"name": "prefers-color-scheme", "value": "dark"}]})
    dark = ground()
    page.click("#theme")
    assert ground() != dark
    page.browser.refresh()
    assert page.ready() and ground() != dark
    page.browser.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": []})


def nameless(page, within):
    elements = [element for element in page.all(f"{within} :is({LABELLED})") if element.is_displayed()]
    assert elements
    return [e.get_attribute("outerHTML")[:90] for e in elements if not e.accessible_name and e.get_attribute("alt") != ""]


def test_everything_has_a_label(page):
    show_everything(page)
    assert nameless(page, "body") == []
    page.click(".user [data-action=edit]")
    assert nameless(page, ".user") == []
    page.click("#open-settings")
    assert nameless(page, "#settings") == []
    page.one("#settings").send_keys(Keys.ESCAPE)
    page.click("#open-help")
    assert nameless(page, "#help") == []
    ids = page.script("return [...document.querySelectorAll('[id]')].map(e => e.id)")
    assert len(ids) == len(set(ids))
    assert page.script("return document.documentElement.lang") == "en"
    assert page.all("main h1")


def test_the_end_of_an_answer_is_announced(page):
    page.ask("Hello")
    (conversation,) = page.conversations()
    text = conversation["messages"][conversation["head"]]["text"]
    said = "return document.querySelector('[aria-live=polite]').textContent"
    page.until(lambda: page.script(said) == text)


def test_a_phone_has_room(page):
    page.browser.execute_cdp_cmd(
        "Emulation.setDeviceMetricsOverride", {"width": 360, "height": 740, "deviceScaleFactor": 1, "mobile": True}
    )
    show_everything(page)
    assert page.script("return document.documentElement.scrollWidth") == 360
    assert not page.all("#sidebar")[0].is_displayed()
    page.click("#open-sidebar")
    page.click("#close-sidebar")
    page.until(lambda: not page.all("#sidebar")[0].is_displayed())
    page.browser.execute_cdp_cmd("Emulation.clearDeviceMetricsOverride", {})
