// Asks for the page until it is there, and only then loads it: nothing flickers or is lost while it is not.
"use strict";

(() => {
  const wait = Number(document.currentScript.dataset.seconds) * 1000;

  const ask = async () => {
    let status = 503;
    try {
      status = (await fetch(location.href, { headers: { Accept: "text/html" }, redirect: "manual" })).status;
    } catch {
      // No server either: asked again all the same.
    }
    if (status === 503) setTimeout(ask, wait);
    else location.reload();
  };

  document.querySelector("[data-retry]").hidden = false;
  setTimeout(ask, wait);
})();
