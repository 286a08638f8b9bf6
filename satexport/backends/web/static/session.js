/** One step of the model under ONNX Runtime Web, from files that were checked. It runs in the Worker. */

import {SatexportError, firstLine} from './errors.js';
import {readNpy} from './npy.js';

/** @typedef {import('./files.js').Folder} Folder */
/** @typedef {import('./files.js').Contract} Contract */
/** @typedef {import('./files.js').TensorSpec} TensorSpec */
/** @typedef {import('./stream.js').Step} Step */
/** @typedef {import('./stream.js').StepResult} StepResult */
/** @typedef {Uint8Array<ArrayBuffer>} Bytes */

const RUNTIME = 'ort.wasm.bundle.min.mjs';
const WASM = 'ort-wasm-simd-threaded.wasm';
const LABELS = 'labels.txt';
const INITIAL_CACHE = 'initial_cache.npy';
const AGAIN = 'Make the bundle again.';

/** @implements {Step} */
export class Session {
  #ort;
  #session;
  #contract;
  #initial;
  #memory;

  /**
   * @param {{ort: Ort, session: OrtSession, contract: Contract, initial: Float32Array | null, labels: string[],
   *   memory: WebAssembly.Memory[], downloadSeconds: number}} parts
   */
  constructor(parts) {
    this.#ort = parts.ort;
    this.#session = parts.session;
    this.#contract = parts.contract;
    this.#initial = parts.initial;
    this.#memory = parts.memory;
    this.labels = parts.labels;
    this.downloadSeconds = parts.downloadSeconds;
    this.threads = parts.ort.env.wasm.numThreads;
  }

  /**
   * Download, check and load a bundle. Throws SatexportError('bundle') if a file is missing or modified, or if ONNX
   * Runtime Web cannot run the graph.
   * @param {Folder} folder
   * @param {number} threads
   * @param {(loaded: number, total: number) => void} onProgress told bytes
   */
  static async load(folder, threads, onProgress) {
    const {contract, graph} = folder.manifest;
    checkSupported(contract);
    const weights = `${graph}.data`;
    const names = [graph, LABELS, RUNTIME, WASM, ...[weights].filter((name) => folder.has(name)),
      ...(contract.cache_in.length ? [INITIAL_CACHE] : [])];
    const started = performance.now();
    const files = await readAll(folder, names, onProgress);
    const downloadSeconds = (performance.now() - started) / 1000;
    const labels = new TextDecoder().decode(files[LABELS]).split('\n').slice(0, -1);
    const initial = contract.cache_in.length ? initialCache(files[INITIAL_CACHE], contract) : null;
    const memory = recordMemory();
    const ort = await importRuntime(files[RUNTIME], files[WASM], threads);
    const session = await createSession(ort, files, graph, weights);
    checkTensors(session, contract);
    return new Session({ort, session, contract, initial, labels, memory, downloadSeconds});
  }

  /** Bytes of the memory of WebAssembly: weights, and what a step computes. */
  get memoryBytes() {
    return this.#memory.reduce((sum, memory) => sum + memory.buffer.byteLength, 0);
  }

  /** The caches of one stream after silence, by the names of the graph's inputs. */
  initialCache() {
    let at = 0;
    return Object.fromEntries(this.#contract.cache_in.map((spec) => {
      const shape = shapeOf(spec), begin = at;
      at += countOf(shape);
      const values = /** @type {Float32Array} */ (this.#initial).slice(begin, at);
      return [spec.name, new this.#ort.Tensor('float32', values, shape)];
    }));
  }

  /**
   * Run the model on one window of one stream.
   * @param {Float32Array<ArrayBuffer>} window
   * @param {unknown} cache of `initialCache` or of an earlier run; it is not changed
   * @returns {Promise<StepResult>}
   */
  async run(window, cache) {
    const {input, scores, embedding, cache_in, cache_out} = this.#contract;
    const audio = new this.#ort.Tensor('float32', window, shapeOf(input));
    const inputs = {[input.name]: audio, .../** @type {Record<string, OrtTensor>} */ (cache)};
    /** @type {Record<string, OrtTensor>} */
    let outputs;
    const started = performance.now();
    try {
      outputs = await this.#session.run(inputs);
    } catch (error) {
      throw new SatexportError('run', `ONNX Runtime Web failed in a step: ${firstLine(error)}. No sample was lost; the ` +
        'next call tries this chunk again.');
    }
    const stepMs = performance.now() - started;
    return {
      scores: outputs[scores.name].data.slice(),
      embedding: embedding && outputs[embedding.name].data.slice(),
      cache: Object.fromEntries(cache_in.map((spec, index) => [spec.name, outputs[cache_out[index].name]])),
      stepMs,
    };
  }
}

/**
 * Download all files at the same time.
 * @param {Folder} folder
 * @param {string[]} names
 * @param {(loaded: number, total: number) => void} onProgress
 * @returns {Promise<Record<string, Bytes>>}
 */
async function readAll(folder, names, onProgress) {
  const total = folder.bytesOf(names);
  let loaded = 0;
  const contents = await Promise.all(names.map((name) => folder.read(name, (bytes) => {
    loaded += bytes;
    onProgress(loaded, total);
  })));
  return Object.fromEntries(names.map((name, index) => [name, contents[index]]));
}

/** @param {Contract} contract */
function checkSupported({options, cache_in}) {
  const found = options.input !== 'audio' ? `the graph takes ${options.input} features, expected audio`
    : options.streams > 1 ? `the graph runs ${options.streams} streams in one step, expected 1`
    : cache_in.some((spec) => spec.dtype !== 'float32') ? `the caches are ${options.cache_dtype}, expected fp32` : '';
  if (found) throw new SatexportError('bundle', `${found}: make the bundle with \`satexport web\`.`);
}

/**
 * @param {Bytes} bytes of initial_cache.npy
 * @param {Contract} contract
 */
function initialCache(bytes, contract) {
  const expected = contract.cache_in.reduce((sum, spec) => sum + countOf(shapeOf(spec)), 0);
  const {data} = readNpy(bytes);
  if (data instanceof Float32Array && data.length === expected) return data;
  throw new SatexportError('bundle', `${INITIAL_CACHE} has ${data.length} numbers, the contract requires ${expected} of ` +
    `float32. ${AGAIN}`);
}

/**
 * ONNX Runtime Web from bytes that were checked; it fetches nothing itself.
 * @param {Bytes} script
 * @param {Bytes} wasm
 * @param {number} threads
 * @returns {Promise<Ort>}
 */
async function importRuntime(script, wasm, threads) {
  const url = URL.createObjectURL(new Blob([script], {type: 'text/javascript'}));  // its threads load it again
  /** @type {Ort} */
  const ort = await import(url);
  ort.env.wasm.wasmBinary = wasm.buffer;
  ort.env.wasm.numThreads = globalThis.crossOriginIsolated ? threads : 1;
  ort.env.logLevel = 'error';
  return ort;
}

/**
 * @param {Ort} ort
 * @param {Record<string, Bytes>} files
 * @param {string} graph
 * @param {string} weights
 */
async function createSession(ort, files, graph, weights) {
  const externalData = files[weights] ? [{path: weights, data: files[weights]}] : [];
  try {
    const session = await ort.InferenceSession.create(files[graph], {executionProviders: ['wasm'], externalData});
    ort.env.wasm.wasmBinary = undefined;  // it is compiled: free its bytes
    return session;
  } catch (error) {
    throw new SatexportError('bundle', `ONNX Runtime Web ${ort.env.versions.web} cannot load ${graph}: ` +
      `${firstLine(error)}. If it names a node, this runtime cannot compute it: please report it with the model. ` +
      `Otherwise: ${AGAIN}`);
  }
}

/**
 * Throws SatexportError('bundle') if the graph lacks a tensor of the contract.
 * @param {OrtSession} session
 * @param {Contract} contract
 */
function checkTensors(session, contract) {
  const outputs = [contract.scores, ...contract.embedding ? [contract.embedding] : [], ...contract.cache_out];
  const missing = [contract.input, ...contract.cache_in].filter(({name}) => !session.inputNames.includes(name))
    .concat(outputs.filter(({name}) => !session.outputNames.includes(name)));
  if (missing.length) throw new SatexportError('bundle', `the graph has no tensor ${missing[0].name}. ${AGAIN}`);
}

/** The memories of WebAssembly that are made from now on, for `memoryBytes`. */
function recordMemory() {
  /** @type {WebAssembly.Memory[]} */
  const memories = [];
  WebAssembly.Memory = class extends WebAssembly.Memory {
    /** @param {WebAssembly.MemoryDescriptor} descriptor */
    constructor(descriptor) {
      super(descriptor);
      if (descriptor.initial) memories.push(this);  // an empty one only tests whether memory can be shared
    }
  };
  return memories;
}

/** The shape for one stream; a graph for any number of them has -1 first. @param {TensorSpec} spec */
function shapeOf({shape}) {
  return [1, ...shape.slice(1)];
}

/** @param {number[]} shape */
function countOf(shape) {
  return shape.reduce((product, size) => product * size, 1);
}
