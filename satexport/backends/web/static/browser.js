/** What the browser needs to have. */

import {SatexportError} from './errors.js';

/** They have all that the page and the model use; the youngest parts are :has() of CSS, and raw deflate. */
export const USE = 'Use Chrome or Edge 105, Firefox 121, Safari 16.4, or newer.';

/** Modules of WebAssembly that are only valid where vector instructions, and shared memory, are supported. */
const SIMD = '0061736d010000000105016000017b030201000a0a010800' + '4100fd0ffd620b';
const SHARED_MEMORY = '0061736d0100000001040160000003020100050401030101' + '0a0b010900' + '4100fe1002001a0b';

/** Throws SatexportError('browser') if this browser lacks what the model needs, and says which browsers have it. */
export function checkBrowser() {
  const missing = [
    [typeof Worker === 'function' && hasModuleWorkers(), 'Workers from JavaScript modules'],
    [typeof WebAssembly === 'object', 'WebAssembly'],
    [isValid(SIMD), 'vector instructions of WebAssembly (SIMD)'],
    [isValid(SHARED_MEMORY), 'atomic instructions of WebAssembly'],
    [hasRawDeflate(), 'DecompressionStream for raw deflate'],
  ].find(([has]) => !has);
  if (missing) throw new SatexportError('browser', `this browser has no ${missing[1]}, which the model needs. ${USE}`);
}

/** Browsers that have it also have the youngest methods that the modules call, such as Object.hasOwn. */
function hasRawDeflate() {
  try {
    return Boolean(new DecompressionStream('deflate-raw'));
  } catch {
    return false;
  }
}

/** A browser that knows modules in Workers asks for the option `type`. */
function hasModuleWorkers() {
  let asked = false;
  const options = {get type() { asked = true; return /** @type {const} */ ('module'); }};
  const url = URL.createObjectURL(new Blob([''], {type: 'text/javascript'}));
  try {
    new Worker(url, options).terminate();
  } catch {
    return false;
  } finally {
    URL.revokeObjectURL(url);
  }
  return asked;
}

/** @param {string} hex bytes of a module of WebAssembly */
function isValid(hex) {
  const bytes = Uint8Array.from(hex.match(/../g) ?? [], (byte) => parseInt(byte, 16));
  return typeof WebAssembly === 'object' && WebAssembly.validate(bytes);
}
