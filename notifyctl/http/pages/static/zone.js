// Tells the server the time zone of whoever looks, once: it writes all times in it from then on. UTC without this script.
"use strict";

(() => {
  const known = `notifyctl_zone=${Intl.DateTimeFormat().resolvedOptions().timeZone}`;
  const isKnown = () => document.cookie.split("; ").includes(known);
  if (isKnown()) return;
  document.cookie = `${known}; path=/; max-age=31536000; samesite=strict`;
  if (isKnown() && document.querySelector("time")) location.reload();
})();
