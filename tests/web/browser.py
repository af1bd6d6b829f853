"""A browser, and the page as a person sees it."""
import json
import os
import sys

from selenium import webdriver
from selenium.webdriver.chrome.service import Service
from selenium.webdriver.common.by import By
from selenium.webdriver.common.keys import Keys
from selenium.webdriver.support.ui import WebDriverWait

sys.path.append(os.path.join(os.path.dirname(__file__), "..", "cluster"))

from processes import WAIT_SECONDS  # noqa: E402

# Streams any answer that a test chooses, where the simulated engine's would be.
CHOSEN_ANSWER = """
const [text, comment] = arguments;
const real = window.fetch;
window.fetch = async (path, options) => {
  if (!options?.body) return real(path, options);
  window.fetch = real;
  const event = {choices: [{index: 0, delta: {content: text}}]};
  return new Response(`${comment}\\n\\ndata: ${JSON.stringify(event)}\\n\\ndata: [DONE]\\n\\n`);
};
"""

LONGEST = "localStorage.setItem('berth.settings', JSON.stringify({maxTokens: arguments[0]}))"


def open_browser():
    options = webdriver.ChromeOptions()
    for flag in ("headless=new", "no-sandbox", "disable-dev-shm-usage", "hide-scrollbars", "force-prefers-reduced-motion"):
        options.add_argument("--" + flag)
    options.add_argument("--window-size=1280,900")
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    return webdriver.Chrome(options=options, service=Service("/usr/bin/chromedriver"))


class Page:
    """What a person sees of the page and does with it."""

    def __init__(self, browser, url):
        self.browser, self.url = browser, url
        browser.get(url)

    def all(self, selector):
        return self.browser.find_elements(By.CSS_SELECTOR, selector)

    def one(self, selector):
        """The last element of the selector, once there is one that can be seen."""
        return self.until(lambda: [element for element in self.all(selector) if element.is_displayed()][-1:])[0]

    def until(self, condition):
        wait = WebDriverWait(self.browser, WAIT_SECONDS, poll_frequency=0.05, ignored_exceptions=[Exception])
        return wait.until(lambda _: condition())

    def script(self, text, *arguments):
        return self.browser.execute_script(text, *arguments)

    def click(self, selector):
        # Buttons of messages are made anew when something changes.
        self.until(lambda: self.one(selector).click() is None)

    def ready(self):
        self.until(lambda: self.script("return document.querySelectorAll('#model option').length > 0"))
        return self

    def send(self, text):
        self.one("#prompt").send_keys(text, Keys.ENTER)

    def texts(self, role):
        return self.script("return [...document.querySelectorAll(arguments[0])].map(e => e.textContent)", f".{role} .text")

    def streaming(self):
        return self.one(".assistant").get_attribute("aria-busy") == "true"

    def answer(self, count=1):
        """The text of the last answer, once it has ended and `count` answers are on show."""
        self.until(lambda: len(self.all(".assistant")) == count and not self.streaming() and self.all(".assistant .figures"))
        return self.texts("assistant")[-1]

    def ask(self, text, count=1):
        self.send(text)
        return self.answer(count)

    def choose_answer(self, text, comment=": nothing"):
        """The next answer is this text."""
        self.script(CHOSEN_ANSWER, text, comment)

    def set_longest(self, tokens):
        self.script(LONGEST, tokens)
        self.browser.refresh()
        return self.ready()

    def conversations(self):
        """Those that the browser keeps."""
        values = self.script("return Object.keys(localStorage).filter(k => k.startsWith('berth.chat.')).map(k => localStorage[k])")
        return [json.loads(value) for value in values]
