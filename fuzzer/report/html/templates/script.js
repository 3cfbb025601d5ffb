"use strict";
// What is folded is opened where a link leads into it; older browsers leave it closed.
function reveal() {
  const found = location.hash && document.getElementById(decodeURIComponent(location.hash.slice(1)));
  for (let at = found; at; at = at.parentElement) if (at.tagName === "DETAILS") at.open = true;
  if (found) found.scrollIntoView();
}
addEventListener("hashchange", reveal);
addEventListener("DOMContentLoaded", () => {
  const live = document.documentElement.dataset.live;
  if (live) {
    const kept = JSON.parse(sessionStorage.getItem("open") || "[]");
    for (const id of kept) { const each = document.getElementById(id); if (each) each.open = true; }
    const look = async () => {
      try {
        const answer = await fetch("version", { cache: "no-store" });
        if (answer.ok && (await answer.text()) !== live) {
          const open = [...document.querySelectorAll("details[open][id]")].map((each) => each.id);
          sessionStorage.setItem("open", JSON.stringify(open));
          location.reload();
          return;
        }
      } catch { /* the server has ended; the page stays */ }
      setTimeout(look, 3000);
    };
    setTimeout(look, 3000);
  }
  if (!live) reveal();
});
