// The page again every two seconds, into the one that is shown: only what differs is touched, so nothing flickers,
// and what somebody has selected stays selected.
const EVERY = 2000;
const main = document.querySelector("main");
const lost = document.getElementById("lost");

function become(shown, fresh) {
    if (shown.isEqualNode(fresh)) return;
    if (shown.nodeName !== fresh.nodeName) return shown.replaceWith(fresh);
    if (shown.nodeType === Node.TEXT_NODE) {
        shown.data = fresh.data;
        return;
    }
    for (const { name } of [...shown.attributes]) if (!fresh.hasAttribute(name)) shown.removeAttribute(name);
    for (const { name, value } of fresh.attributes) {
        if (shown.getAttribute(name) !== value) shown.setAttribute(name, value);
    }
    const old = [...shown.childNodes];
    [...fresh.childNodes].forEach((node, place) => (place < old.length ? become(old[place], node) : shown.append(node)));
    old.slice(fresh.childNodes.length).forEach((node) => node.remove());
}

async function look() {
    if (!document.hidden) {
        try {
            const response = await fetch("/", { signal: AbortSignal.timeout(5000) });
            const fresh = new DOMParser().parseFromString(await response.text(), "text/html");
            const count = fresh.querySelector("main").childNodes.length;
            if (!response.ok || !count) throw new Error(response.status);
            become(main, document.adoptNode(fresh.querySelector("main")));
            become(document.querySelector("link[rel=icon]"), document.adoptNode(fresh.querySelector("link[rel=icon]")));
            document.title = fresh.title;
            lost.hidden = true;
        } catch {
            if (lost.hidden) {
                lost.hidden = false;
                lost.querySelector("time").textContent = new Date().toLocaleTimeString();
                document.title = "no answer · Schoolbell";
                main.classList.add("old");
            }
        }
    }
    setTimeout(look, EVERY);
}

document.addEventListener("visibilitychange", () => document.hidden || clearTimeout(next));
let next = setTimeout(look, EVERY);
