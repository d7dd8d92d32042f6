// Fetches the page that is shown again and puts its figures in place, so that what is focused, selected, unfolded or
// typed stays. A page without this script is whole: it is only as old as when it was loaded.
"use strict";

(() => {
  const EVERY = Number(document.currentScript.dataset.seconds) * 1000;
  const SHARE = 10; // A refresh that takes long is repeated less often: at most a tenth of the time is spent on it.
  const PATIENCE = 30_000;
  const status = document.querySelector("[data-refresh-status]");
  const pause = document.querySelector("[data-pause]");
  let timer, last = Date.now(), isPaused = false, isOver = false, isBusy = false;

  const plan = (wait) => {
    clearTimeout(timer);
    if (!isPaused && !isOver && !document.hidden) timer = setTimeout(refresh, wait);
  };

  const say = (text, href) => {
    if (status.textContent === text) return;
    status.textContent = text;
    if (href) {
      const link = document.createElement("a");
      link.href = href;
      link.textContent = "Sign in again";
      status.append(" ", link);
    }
    document.documentElement.classList.toggle("stale", text !== "");
  };

  const refresh = async () => {
    if (isBusy) return;
    isBusy = true;
    const started = Date.now();
    try {
      const answer = await fetch(location.href, {
        headers: { Accept: "text/html" }, redirect: "manual", signal: AbortSignal.timeout(PATIENCE),
      });
      if (answer.type === "opaqueredirect") {
        isOver = true;
        say("Your session has ended.", location.href);
      } else if (!answer.ok && answer.status !== 422) {
        fail(answer.status === 503 ? "the database cannot be used" : `the server answered ${answer.status}`);
      } else {
        show(new DOMParser().parseFromString(await answer.text(), "text/html"));
        last = Date.now();
        say("");
      }
    } catch {
      fail("the server did not answer");
    } finally {
      isBusy = false;
      plan(Math.max(EVERY, SHARE * (Date.now() - started)));
    }
  };

  const fail = (cause) => {
    const shown = document.querySelector("[data-live=moment] time").textContent;
    say(`Not refreshed: ${cause}. These are the figures of ${shown}. Trying again.`);
  };

  const show = (fresh) => {
    const regions = [...document.querySelectorAll("[data-live]")];
    const kept = regions.find((region) => region.getBoundingClientRect().bottom > 0);
    const before = kept?.getBoundingClientRect().top;
    for (const region of regions) {
      const next = fresh.querySelector(`[data-live="${region.dataset.live}"]`);
      if (next && !isInUse(region)) replace(region, next);
    }
    document.title = fresh.title;
    if (kept) scrollBy({ top: kept.getBoundingClientRect().top - before, behavior: "instant" });
  };

  // Text that somebody is selecting must not vanish under the pointer.
  const isInUse = (region) => {
    const selection = getSelection();
    return !selection.isCollapsed && region.contains(selection.anchorNode);
  };

  const replace = (region, next) => {
    for (const open of region.querySelectorAll("details[open]")) {
      next.querySelector(`#${CSS.escape(open.id)}`)?.setAttribute("open", "");
    }
    region.className = next.className;
    if (region.innerHTML === next.innerHTML) return;
    const path = region.contains(document.activeElement) ? pathTo(document.activeElement, region) : null;
    const scrolled = [...region.querySelectorAll(".scroll")].map((box) => box.scrollTop);
    region.replaceChildren(...document.adoptNode(next).childNodes);
    region.querySelectorAll(".scroll").forEach((box, number) => { box.scrollTop = scrolled[number] ?? 0; });
    if (path) region.querySelectorAll(path.selector)[path.number]?.focus({ preventScroll: true });
  };

  // What is focused is found again by what it is: its id, else its address, else its place among its like.
  const pathTo = (element, region) => {
    let selector = element.localName;
    if (element.id) selector = `#${CSS.escape(element.id)}`;
    else if (element.hasAttribute("href")) selector += `[href="${CSS.escape(element.getAttribute("href"))}"]`;
    return { selector, number: [...region.querySelectorAll(selector)].indexOf(element) };
  };

  pause.hidden = false;
  pause.addEventListener("click", () => {
    isPaused = !isPaused;
    pause.textContent = isPaused ? "Resume updates" : "Pause updates";
    plan(0);
  });
  document.addEventListener("visibilitychange", () => plan(Math.max(0, last + EVERY - Date.now())));
  plan(EVERY);
})();
