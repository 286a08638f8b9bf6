/** Takes files: dropped anywhere on the page, pasted, or chosen. */

import {find} from './dom.js';

/** @param {(files: File[]) => void} take */
export function acceptFiles(take) {
  const veil = find('veil', HTMLElement);
  const input = find('files', HTMLInputElement);
  const button = find('open', HTMLButtonElement);
  button.disabled = false;
  button.addEventListener('click', () => input.click());
  input.addEventListener('change', () => {
    take([...input.files ?? []]);
    input.value = '';  // so that the same file can be chosen again
  });
  const hasFiles = (/** @type {DragEvent} */ event) => event.dataTransfer?.types.includes('Files') ?? false;
  document.addEventListener('dragover', (event) => {
    if (!hasFiles(event)) return;
    event.preventDefault();
    veil.hidden = false;
  });
  document.addEventListener('dragleave', (event) => { if (!event.relatedTarget) veil.hidden = true; });
  document.addEventListener('drop', (event) => {
    veil.hidden = true;
    if (!hasFiles(event)) return;
    event.preventDefault();
    take([...event.dataTransfer?.files ?? []]);
  });
  document.addEventListener('paste', (event) => {
    if (event.clipboardData?.files.length) take([...event.clipboardData.files]);
  });
}
