// Asks for the moment every two seconds and changes what is shown only where it differs: nothing flickers, and what
// somebody has selected stays selected.
const main = document.querySelector("main");
const icon = document.querySelector("link[rel=icon]");
const lost = document.getElementById("lost");
let asking = false;

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
    const all = [...fresh.childNodes];
    all.forEach((node, place) => (place < old.length ? become(old[place], node) : shown.append(node)));
    old.slice(all.length).forEach((node) => node.remove());
}

async function ask() {
    if (asking || document.hidden) return;
    asking = true;
    try {
        const response = await fetch("?moment", { signal: AbortSignal.timeout(5000) });
        const fresh = new DOMParser().parseFromString(await response.text(), "text/html");
        const now = document.adoptNode(fresh.querySelector("main"));
        // Another version of the program has another style.
        if (now.dataset.version !== main.dataset.version) return location.reload();
        become(main, now);
        icon.href = fresh.querySelector("link[rel=icon]").href;
        document.title = fresh.title;
        lost.hidden = true;
    } catch {
        if (lost.hidden) lost.querySelector("time").textContent = new Date().toLocaleTimeString();
        lost.hidden = false;
        main.classList.add("old");
        document.title = "no answer · Schoolbell";
    }
    asking = false;
}

setInterval(ask, 2000);
document.addEventListener("visibilitychange", ask);
