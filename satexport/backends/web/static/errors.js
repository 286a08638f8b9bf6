/** What went wrong, in plain English: what was found, what was expected, what to do. */

/** @typedef {'audio' | 'bundle' | 'browser' | 'run' | 'use'} Kind */

/**
 * audio: the samples are not audio, or at another rate; bundle: a file is missing or changed; browser: it lacks what
 * this needs; run: the model failed in a step; use: a call that this module does not allow.
 */
export class SatexportError extends Error {
  /**
   * @param {Kind} kind
   * @param {string} message
   */
  constructor(kind, message) {
    super(message);
    this.name = 'SatexportError';
    this.kind = kind;
  }
}

/**
 * What a message between threads carries of an error, because a class does not survive postMessage.
 * @typedef {{kind: Kind, message: string}} PlainError
 */

/**
 * @param {unknown} error
 * @returns {PlainError}
 */
export function toPlain(error) {
  if (error instanceof SatexportError) return {kind: error.kind, message: error.message};
  return {kind: 'run', message: firstLine(error)};
}

/**
 * The first line of an error's message.
 * @param {unknown} error
 */
export function firstLine(error) {
  const text = error instanceof Error ? error.message || error.name : String(error);
  return text.trim().split('\n')[0];
}
