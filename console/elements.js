/** Elements of the page. Text goes in as text, never as markup. */

export const element = (id) => document.getElementById(id);

export const copyOf = (id) => element(id).content.firstElementChild.cloneNode(true);

export const part = (parent, name) => parent.querySelector(`[data-part="${name}"]`);

export function write(node, text) {
  if (node.textContent !== text) node.textContent = text;
}

/** Fills a select with pairs of value and label; those that stand in the markup stay. */
export function offer(select, pairs) {
  for (const option of [...select.querySelectorAll("[data-offered]")]) option.remove();
  for (const [value, label] of pairs) {
    const option = new Option(label, value);
    option.dataset.offered = "";
    select.append(option);
  }
}

/** Calls the function once nothing has asked for it for a while; `cancel` forgets it. */
export function debounced(milliseconds, act) {
  let timer;
  const later = () => {
    clearTimeout(timer);
    timer = setTimeout(act, milliseconds);
  };
  later.cancel = () => clearTimeout(timer);
  return later;
}
