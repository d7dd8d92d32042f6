from tests.browser.chromium import Tab

HOME = "/admin/notification-health"


def sign_in(tab: Tab, url: str, key: str) -> None:
    tab.open(url)
    tab.fill("#key", key)
    tab.click(".go")
    tab.loaded()
