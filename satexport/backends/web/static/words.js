/** The notices of the page: what happened, and what to do. */

import {USE} from './browser.js';
import {SatexportError} from './errors.js';

/** @typedef {{title: string, text: string, kind?: 'error' | 'note'}} Notice  'error' if no kind is given */

const FILES_TOO = 'Audio files can still be opened here.';
const AGAIN = 'press Start listening again';

/** @type {Notice} */
export const NO_MICROPHONE_IN_BROWSER = {
  kind: 'note', title: 'This browser has no microphone for pages.',
  text: `Use a current Chrome, Edge, Firefox or Safari, and open the page in a window of its own. ${FILES_TOO}`,
};
/** @type {Notice} */
export const PLAIN_HTTP = {
  kind: 'note', title: 'No microphone over plain http.',
  text: 'Browsers give a page the microphone only over https, or from this machine itself (http://localhost). '
    + `Serve the folder over https to listen. ${FILES_TOO}`,
};
/** @type {Notice} */
export const NO_WORKLET = {
  kind: 'note', title: 'This browser cannot pass on the microphone.',
  text: `It has no AudioWorklet. ${USE} ${FILES_TOO}`,
};
/** @type {Notice} */
export const RANDOM_WEIGHTS = {
  kind: 'note', title: 'Random weights.', text: 'This bundle is for sizing a device: its scores mean nothing.',
};

/**
 * What went wrong when the microphone was asked for.
 * @param {unknown} error
 * @returns {Notice}
 */
export function refusal(error) {
  if (error instanceof SatexportError) return {title: 'The microphone did not start.', text: error.message};
  const name = error instanceof DOMException ? error.name : '';
  const reason = messageOf(error).replace(/\.$/, '');
  if (name === 'NotAllowedError' && /dismiss/i.test(reason)) {
    return {title: 'The question was closed without an answer.', text: `Allow the microphone: ${AGAIN}.`};
  }
  if (name === 'NotAllowedError' || name === 'SecurityError') {
    return {
      title: 'The microphone is not allowed.',
      text: "Allow it for this page in the browser's site settings (the sign beside the address), or in the system's "
        + `privacy settings if the browser itself may not use it. Then ${AGAIN}. ${FILES_TOO}`,
    };
  }
  if (name === 'NotFoundError' || name === 'OverconstrainedError') {
    return {
      title: 'No microphone was found.',
      text: `Plug one in, or switch it on in the system settings, and ${AGAIN}. ${FILES_TOO}`,
    };
  }
  if (name === 'NotReadableError' || name === 'AbortError') {
    return {
      title: 'The microphone cannot be opened.',
      text: `Another program may be using it (${reason}). Close that program, or unplug the microphone and plug it in `
        + `again, then ${AGAIN}.`,
    };
  }
  return {title: 'The microphone did not start.', text: `The browser said: ${reason}. Reload the page, and ${AGAIN}.`};
}

/** @type {Notice} */
export const UNPLUGGED = {
  title: 'The microphone is gone.',
  text: 'It was unplugged, switched off, or its permission was withdrawn. What was heard is kept. Plug it in, and '
    + `${AGAIN}.`,
};
/** @type {Notice} */
export const MUTED = {
  kind: 'note', title: 'The microphone is muted.',
  text: 'The system or the device gives no sound. Switch it on there; listening goes on by itself.',
};
/** @type {Notice} */
export const PAUSED = {
  kind: 'note', title: 'The browser paused the microphone.',
  text: 'A call, the lock screen or another program took it. Until it goes on, nothing is heard. Press any key, or '
    + 'anywhere on this page, to go on.',
};
/** @type {Notice} */
export const ONLY_ZEROS = {
  kind: 'note', title: 'Only digital silence arrives.',
  text: 'The microphone may be muted by a switch or in the system settings, or another one may be chosen.',
};

/** @param {Error} error  @returns {Notice} */
export const broken = (error) => ({
  title: 'Listening stopped.', text: `${error.message} To go on, ${AGAIN}; if this happens again, reload the page.`,
});

/** @param {number} seconds  that were left out  @returns {Notice} */
export const lost = (seconds) => ({
  kind: 'note', title: `${seconds.toFixed(1)} s of sound were lost.`,
  text: 'The browser left them out because this device was too busy. Close other programs or tabs.',
});

/** @param {number} seconds  @returns {Notice} */
export const behind = (seconds) => ({
  kind: 'note', title: `This device is more than ${seconds} s behind.`,
  text: 'Nothing is lost yet. Close other programs or tabs if it does not catch up.',
});

/** @param {number} seconds  @returns {Notice} */
export const tooSlow = (seconds) => ({
  title: 'This device is too slow to listen.',
  text: `It was ${Math.round(seconds)} s behind. Close other programs or tabs, or use a smaller model. ${FILES_TOO}`,
});

/**
 * @param {string} name  of a file
 * @param {boolean} partly  whether its beginning was read
 * @param {string} reason
 * @returns {Notice}
 */
export const notRead = (name, partly, reason) => ({
  title: `${name} was not read${partly ? ' to its end' : ''}.`, text: reason,
});

/** @param {string} name @param {string[]} notes  @returns {Notice} */
export const readWith = (name, notes) => ({kind: 'note', title: `${name} was read.`, text: notes.join(' ')});

/** @param {unknown} error */
export const messageOf = (error) => error instanceof Error ? error.message : String(error);
