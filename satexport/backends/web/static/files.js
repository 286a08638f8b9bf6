/** The files of a bundle's folder: each is compared with its size and SHA-256 in bundle.json before it is used. */

import {SatexportError, firstLine} from './errors.js';
import {hashOf} from './sha256.js';

/** @typedef {{name: string, shape: number[], dtype: string}} TensorSpec */

/**
 * What a program needs to know about the graph to run it; the fields that this module reads.
 * @typedef {object} Contract
 * @property {string} variant such as "sat-t-2s"
 * @property {number} sample_rate Hz
 * @property {number} window_samples samples that one step takes
 * @property {number} hop_samples new samples per step
 * @property {number} classes
 * @property {{input: string, streams: number, cache_dtype: string}} options
 * @property {TensorSpec} input
 * @property {TensorSpec} scores
 * @property {TensorSpec | null} embedding
 * @property {TensorSpec[]} cache_in
 * @property {TensorSpec[]} cache_out
 * @property {{name: string, source: string, sha256: string}} checkpoint
 */

/**
 * The content of bundle.json; the fields that this module reads.
 * @typedef {object} Manifest
 * @property {number} schema
 * @property {string} seal SHA-256 of bundle.json with an empty seal
 * @property {string} graph name of the graph's file
 * @property {Contract} contract
 * @property {Record<string, {bytes: number, sha256: string}>} files
 * @property {{name: string, precision: string, gates: Record<string, unknown>}} target
 */

const MANIFEST = 'bundle.json';
const SCHEMA = 6;  // of the bundles that this version reads
const AGAIN = 'Copy the whole folder to the server again, or make the bundle again.';

/** A folder on a web server whose bundle.json has its seal. */
export class Folder {
  /**
   * @param {URL} url ends with a slash
   * @param {Manifest} manifest
   * @param {string} [sha256] of bundle.json, by which reports name a bundle
   */
  constructor(url, manifest, sha256 = '') {
    this.url = url;
    this.manifest = manifest;
    this.sha256 = sha256;
    /** @type {string[]} files of which the browser's cache had an older version */
    this.renewed = [];
  }

  /**
   * Open the folder. Throws SatexportError('bundle') if bundle.json is missing, modified or of another version.
   * @param {URL} url
   * @returns {Promise<Folder>}
   */
  static async open(url) {
    const bytes = await download(new URL(MANIFEST, url), null, 'no-cache');
    const text = new TextDecoder().decode(bytes);
    /** @type {Manifest} */
    let manifest;
    try {
      manifest = JSON.parse(text);
    } catch (error) {
      throw new SatexportError('bundle', `${MANIFEST} of ${url} is not JSON (${firstLine(error)}). ${AGAIN}`);
    }
    if (manifest?.schema !== SCHEMA) {
      throw new SatexportError('bundle', `${MANIFEST} has schema ${manifest?.schema}, this version of satexport.js reads ` +
        `schema ${SCHEMA}. Use the satexport.js of the same folder.`);
    }
    const seal = String(manifest.seal);
    if (await hashOf(new TextEncoder().encode(text.replaceAll(seal, ''))) !== seal) {
      throw new SatexportError('bundle', `${MANIFEST} was modified: its SHA-256 does not match its seal. ${AGAIN}`);
    }
    return new Folder(url, manifest, await hashOf(bytes));
  }

  /** Whether bundle.json lists a file. @param {string} name */
  has(name) {
    return Object.hasOwn(this.manifest.files, name);
  }

  /**
   * The size of some files in bytes.
   * @param {string[]} names
   */
  bytesOf(names) {
    return names.reduce((sum, name) => sum + this.#listed(name).bytes, 0);
  }

  /**
   * The content of a file, downloaded and checked. If the browser's cache has an older version of it, it is downloaded
   * again. Throws SatexportError('bundle') if it is missing, not listed in bundle.json or modified.
   * @param {string} name
   * @param {(bytes: number) => void} [onBytes] told the size of each part that arrives, negative if it is dropped
   * @returns {Promise<Uint8Array<ArrayBuffer>>}
   */
  async read(name, onBytes) {
    const facts = this.#listed(name), url = new URL(name, this.url);
    let fault = '';
    for (const cache of /** @type {const} */ (['default', 'reload'])) {
      const bytes = await download(url, facts.bytes, cache, onBytes);
      if (bytes.length === facts.bytes && await hashOf(bytes) === facts.sha256) {
        if (cache === 'reload') this.renewed.push(name);
        return bytes;
      }
      fault = bytes.length === facts.bytes ? `its SHA-256 does not match ${MANIFEST}`
        : `it has ${bytes.length} bytes or more, ${MANIFEST} lists ${facts.bytes}`;
      onBytes?.(-bytes.length);
    }
    throw new SatexportError('bundle', `${name} was modified: ${fault}. ${AGAIN}`);
  }

  /**
   * Compare scripts, styles and pages that the browser uses already with bundle.json, in the version that its cache
   * has. Throws SatexportError('bundle') if one is missing or modified, or if the cache has an older one.
   * @param {string[]} names
   */
  async checkCode(names) {
    await Promise.all(names.map((name) => this.read(name)));
    if (!this.renewed.length) return;
    throw new SatexportError('bundle', `the browser had kept an older ${this.renewed[0]}. Reload the page.`);
  }

  /** @param {string} name */
  #listed(name) {
    if (this.has(name)) return this.manifest.files[name];
    throw new SatexportError('bundle', `${MANIFEST} does not list ${name}, which this bundle needs. ${AGAIN}`);
  }
}

/**
 * The content of a file; no more than one part beyond the expected size is read.
 * @param {URL} url
 * @param {number | null} expected size in bytes; null: any
 * @param {RequestCache} cache
 * @param {(bytes: number) => void} [onBytes]
 * @returns {Promise<Uint8Array<ArrayBuffer>>}
 */
async function download(url, expected, cache, onBytes) {
  const name = url.pathname.split('/').at(-1);
  /** @type {Response} */
  let response;
  try {
    response = await fetch(url, {cache});
  } catch (error) {
    throw new SatexportError('bundle', `${name} could not be downloaded from ${url} (${firstLine(error)}). Check the ` +
      'connection, and that the server runs.');
  }
  if (!response.ok || !response.body) {
    throw new SatexportError('bundle', `${name} is missing: ${url} answers ${response.status}. ${AGAIN}`);
  }
  try {
    return await collect(response.body.getReader(), expected, onBytes);
  } catch (error) {
    throw new SatexportError('bundle', `the download of ${name} broke off (${firstLine(error)}). Load it again.`);
  }
}

/**
 * @param {ReadableStreamDefaultReader<Uint8Array>} reader
 * @param {number | null} expected size in bytes
 * @param {(bytes: number) => void} [onBytes]
 */
async function collect(reader, expected, onBytes) {
  /** @type {Uint8Array[]} */
  const parts = [];
  let size = 0;
  for (let part = await reader.read(); !part.done; part = await reader.read()) {
    parts.push(part.value);
    size += part.value.length;
    onBytes?.(part.value.length);
    if (expected !== null && size > expected) {
      await reader.cancel();
      break;
    }
  }
  const bytes = new Uint8Array(size);
  let at = 0;
  for (const part of parts) {
    bytes.set(part, at);
    at += part.length;
  }
  return bytes;
}
