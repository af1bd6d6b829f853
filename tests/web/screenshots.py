"""Makes the pictures of docs/images with the demo model. usage: screenshots.py BIN_DIR"""
import glob
import os
import sys
import tempfile

from browser import Page, open_browser
from processes import Cluster
from selenium.webdriver.common.keys import Keys

ROOT = os.path.abspath(os.path.join(os.path.dirname(__file__), "../.."))
QUESTION = "Write a Python function that merges two sorted lists, with a short explanation."


def save(page, name):
    page.browser.save_screenshot(os.path.join(ROOT, "docs/images", name))


def has_begun(page):
    page.until(lambda: len(page.texts("assistant")[-1]) > 150)


def stop(page):
    page.click("#new-chat")
    page.send("Tell me about the tides.")
    has_begun(page)
    page.click("#stop")
    page.answer()


def branch(page):
    page.click("#new-chat")
    page.ask("Name three harbours of Europe.")
    page.script("document.querySelector('.user [data-action=edit]').click()")
    page.one(".edit textarea").send_keys(Keys.BACKSPACE * len("Europe."), "Asia.")
    page.click("[data-action=send-edit]")
    page.until(lambda: page.texts("user") == ["Name three harbours of Asia."])
    page.answer()


def resume(page, cluster):
    page.click("#new-chat")
    page.send("How does a ship enter a harbour?")
    has_begun(page)
    cluster.workers.pop(cluster.busy()[0]).kill()
    page.answer()


def main(bin_dir):
    (model,) = glob.glob(os.path.join(ROOT, ".cache/models/*.gguf"))
    cluster = Cluster(bin_dir, tempfile.mkdtemp(), workers=2, worker_arguments=("--model", model))
    browser = open_browser()
    try:
        page = Page(browser, cluster.url).ready()
        page.script("localStorage['berth.theme'] = 'light'")
        page.script("localStorage['berth.settings'] = JSON.stringify({temperature: 0, maxTokens: 256})")
        browser.refresh()
        page.ready()
        page.ask("What is a berth in a harbour?")
        page.click("#new-chat")
        page.ask(QUESTION)
        page.click("#prompt")
        save(page, "chat.png")
        stop(page)
        save(page, "stopped.png")
        branch(page)
        save(page, "branches.png")
        page.click("#theme")
        page.click("#open-settings")
        save(page, "settings.png")
        page.click("#settings .primary")
        resume(page, cluster)
        save(page, "resumed.png")
        device = {"width": 390, "height": 760, "deviceScaleFactor": 1, "mobile": True}
        browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", device)
        save(page, "phone.png")
    finally:
        browser.quit()
        cluster.stop()


if __name__ == "__main__":
    main(*sys.argv[1:])
