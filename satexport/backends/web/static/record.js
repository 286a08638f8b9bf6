/** What was heard as files: CSV for a spreadsheet, JSON with the model and the bundle's hash. */

import {above} from './history.js';

/** @typedef {import('./history.js').History} History */
/** @typedef {import('./history.js').Heard} Heard */
/** @typedef {{variant: string, precision: string, checkpoint: object, seal: string, bundle_sha256: string}} Facts */

/**
 * One row per chunk and sound that reached the threshold.
 * @param {History} history
 * @param {readonly string[]} labels
 * @param {number} threshold
 */
export function rows(history, labels, threshold) {
  return history.chunks.flatMap((heard) => above(heard, threshold).map(([index, score]) => ({
    source: heard.source.name, time: wallTime(heard), start: rounded(heard.start, 3), end: rounded(heard.end, 3),
    label: labels[index] ?? String(index), score: rounded(score, 4),
  })));
}

/**
 * RFC 4180: a field with a comma, quote or line break is quoted. `time` is empty for files.
 * @param {History} history
 * @param {readonly string[]} labels
 * @param {number} threshold
 */
export function toCsv(history, labels, threshold) {
  const lines = rows(history, labels, threshold).map((row) =>
    [row.source, row.time ?? '', row.start, row.end, row.label, row.score].map(field).join(','));
  return ['source,time,start,end,label,score', ...lines, ''].join('\r\n');
}

/**
 * @param {History} history
 * @param {readonly string[]} labels
 * @param {number} threshold
 * @param {Facts} facts
 */
export function toJson(history, labels, threshold, facts) {
  return JSON.stringify({
    kind: 'heard', written: new Date().toISOString(), model: facts, threshold,
    chunks: history.chunks.length, older_chunks_dropped: history.dropped,
    lost_seconds: rounded(lostSeconds(history), 3), heard: rows(history, labels, threshold),
  }, null, 1) + '\n';
}

/**
 * Save a text as a file of the reader's device; nothing is sent.
 * @param {string} name
 * @param {string} type
 * @param {string} text
 */
export function save(name, type, text) {
  const link = document.createElement('a');
  link.href = URL.createObjectURL(new Blob([text], {type}));
  link.download = name;
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 10_000);
}

/** Seconds of sound that the browser left out of the sources that are kept. @param {History} history */
function lostSeconds(history) {
  const sources = new Set(history.chunks.map((heard) => heard.source));
  return [...sources].reduce((sum, source) => sum + source.lost, 0);
}

/** @param {Heard} heard */
function wallTime(heard) {
  const begun = heard.source.begun;
  return begun ? new Date(begun.getTime() + 1000 * heard.start).toISOString() : null;
}

/**
 * A field of CSV. A quote goes before a name that a spreadsheet would compute as a formula.
 * @param {string | number} value
 */
function field(value) {
  const text = typeof value === 'string' && /^[=+\-@\t\r]/.test(value) ? `'${value}` : String(value);
  return /[",\r\n]/.test(text) ? `"${text.replaceAll('"', '""')}"` : text;
}

/** @param {number} value @param {number} digits */
const rounded = (value, digits) => Number(value.toFixed(digits));
