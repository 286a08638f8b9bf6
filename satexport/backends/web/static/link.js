/** The main thread's end of the Worker: requests and their answers. */

import {SatexportError, firstLine} from './errors.js';

/** @typedef {import('./stream.js').Chunk} Chunk */
/** @typedef {import('./worker.js').Answer} Answer */
/** @typedef {(done: number, total: number) => void} Progress */
/**
 * What a stream is told.
 * @typedef {object} Listener
 * @property {(chunk: Chunk) => void} chunk
 * @property {(progress: import('./worker.js').StreamProgress) => void} progress
 * @property {(error: SatexportError) => void} failed
 */
/**
 * @typedef {object} Pending a request that was not answered yet
 * @property {(value: any) => void} resolve
 * @property {(error: SatexportError) => void} reject
 * @property {Progress} [onProgress]
 * @property {Chunk[]} [chunks] to which its chunks are added
 */

export class Link {
  #worker;
  #closed = false;
  #ids = 0;
  #streams = 0;
  /** @type {Map<number, Pending>} */
  #pending = new Map();
  /** @type {Map<number, Listener>} */
  #listeners = new Map();

  /** @param {URL} script of the Worker */
  constructor(script) {
    this.memory = 0;  // bytes of the Worker's WebAssembly
    this.#worker = startWorker(script);
    this.#worker.onmessage = ({data}) => this.#take(data);
    this.#worker.onerror = (event) => {
      const error = new SatexportError('run', 'the Worker stopped ' +
        `(${event.message || `${script} cannot be run`}). Load the bundle again.`);
      const listeners = [...this.#listeners.values()];
      this.#end(error);
      for (const {failed} of listeners) failed(error);
    };
  }

  /**
   * Ask the Worker.
   * @param {object} request
   * @param {Transferable[]} [transferred]
   * @param {Progress} [onProgress]
   * @param {Chunk[]} [chunks] to which the request's chunks are added
   * @returns {Promise<any>}
   */
  ask(request, transferred = [], onProgress, chunks) {
    if (this.#closed) return Promise.reject(closedError());
    const id = ++this.#ids;
    return new Promise((resolve, reject) => {
      this.#pending.set(id, {resolve, reject, onProgress, chunks});
      this.#worker.postMessage({...request, id}, transferred);
    });
  }

  /**
   * Open a stream. Returns its number.
   * @param {Listener} listener
   */
  open(listener) {
    const stream = ++this.#streams;
    this.#listeners.set(stream, listener);
    this.ask({type: 'open', stream}).catch(() => {});
    return stream;
  }

  /** @param {number} stream of which nothing more is told */
  forget(stream) {
    this.#listeners.delete(stream);
  }

  close() {
    this.#end(closedError());
  }

  /** @param {SatexportError} error for all that was asked for and not answered */
  #end(error) {
    this.#worker.terminate();
    this.#closed = true;
    for (const {reject} of this.#pending.values()) reject(error);
    this.#pending.clear();
    this.#listeners.clear();
  }

  /** @param {Answer} answer */
  #take(answer) {
    this.memory = answer.memory;
    const pending = this.#pending.get(answer.id), listener = this.#listeners.get(answer.stream ?? 0);
    if (answer.progress) listener?.progress(answer.progress);
    switch (answer.type) {
      case 'taken': return;
      case 'progress': return pending?.onProgress?.(answer.done, answer.total);
      case 'failed': return listener?.failed(toError(answer.error));
      case 'chunk':
        pending?.chunks?.push(answer.chunk);
        return listener?.chunk(answer.chunk);
    }
    this.#pending.delete(answer.id);
    if (answer.type === 'result') pending?.resolve(answer.value);
    else pending?.reject(toError(answer.error));
  }
}

/**
 * Throws SatexportError('use') if the browser refuses the script, because it comes from another origin than the page.
 * @param {URL} script
 */
function startWorker(script) {
  try {
    return new Worker(script, {type: 'module', name: 'satexport'});
  } catch (error) {
    throw new SatexportError('use', `the browser starts no Worker from ${script} (${firstLine(error)}); expected the ` +
      `bundle's folder on the server of this page, ${globalThis.origin}. Copy it there.`);
  }
}

/** @param {import('./errors.js').PlainError} error */
function toError({kind, message}) {
  return new SatexportError(kind, message);
}

function closedError() {
  return new SatexportError('use', 'the model is closed. Load it again.');
}
