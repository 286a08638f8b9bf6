/** Small helpers for the page: find and make elements, and write numbers. */

/**
 * The element with an id, as the class that the caller expects.
 * @template {Element} T
 * @param {string} id
 * @param {new () => T} type
 * @returns {T}
 */
export function find(id, type) {
  const found = document.getElementById(id);
  if (!(found instanceof type)) throw new Error(`index.html has no ${type.name} with the id ${id}`);
  return found;
}

/**
 * Make an element with text.
 * @template {keyof HTMLElementTagNameMap} K
 * @param {K} tag
 * @param {string} [text]
 * @param {string} [className]
 * @returns {HTMLElementTagNameMap[K]}
 */
export function make(tag, text = '', className = '') {
  const element = document.createElement(tag);
  if (text) element.textContent = text;
  if (className) element.className = className;
  return element;
}

/**
 * Seconds as m:ss, or h:mm:ss from an hour on.
 * @param {number} seconds
 */
export function clock(seconds) {
  const whole = Math.max(0, Math.floor(seconds + 1e-6));
  const two = (/** @type {number} */ n) => String(n).padStart(2, '0');
  const hours = Math.floor(whole / 3600);
  const minutes = Math.floor(whole / 60) % 60;
  return hours ? `${hours}:${two(minutes)}:${two(whole % 60)}` : `${minutes}:${two(whole % 60)}`;
}

/**
 * Bytes in MB (10^6 bytes) with one digit.
 * @param {number} bytes
 */
export const megabytes = (bytes) => (bytes / 1e6).toFixed(1);

/**
 * A span of seconds in words for a bound: "12 hours", "40 minutes".
 * @param {number} seconds
 */
export function span(seconds) {
  const [count, unit] = seconds >= 7200 ? [seconds / 3600, 'hour']
    : seconds >= 120 ? [seconds / 60, 'minute'] : [seconds, 'second'];
  const rounded = Math.round(count);
  return `${rounded} ${unit}${rounded === 1 ? '' : 's'}`;
}

/**
 * The middle value, or another quantile in [0, 1]; NaN without values.
 * @param {readonly number[]} values
 * @param {number} [share]
 */
export function quantile(values, share = 0.5) {
  const sorted = [...values].sort((a, b) => a - b);
  return sorted[Math.min(sorted.length - 1, Math.floor(share * sorted.length))] ?? NaN;
}
