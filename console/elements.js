/** Helpers for elements. They write text as text, never as markup. */

export const element = (id) => document.getElementById(id);

export const copyOf = (id) => element(id).content.firstElementChild.cloneNode(true);

export const part = (parent, name) => parent.querySelector(`[data-part="${name}"]`);

export function write(node, text) {
  if (node.textContent !== text) node.textContent = text;
}

/** Fills a select with pairs of value and label. Options in the markup stay. */
export function offer(select, pairs) {
  for (const option of [...select.querySelectorAll("[data-offered]")]) option.remove();
  for (const [value, label] of pairs) {
    const option = new Option(label, value);
    option.dataset.offered = "";
    select.append(option);
  }
}

/** Returns a function that calls this one after a pause without further calls. `cancel` drops the pending call. */
export function debounced(milliseconds, act) {
  let timer;
  const later = () => {
    clearTimeout(timer);
    timer = setTimeout(act, milliseconds);
  };
  later.cancel = () => clearTimeout(timer);
  return later;
}
