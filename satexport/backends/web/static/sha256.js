/** SHA-256 (FIPS 180-4). Browsers have their own only in a secure context: https, or a page of this machine. */

/** The first 32 bits of the fraction of x. @param {number} x */
const fraction = (x) => Math.floor((x - Math.floor(x)) * 2 ** 32);

const PRIMES = Array.from({length: 312}, (_, n) => n).filter((n) => {
  for (let divisor = 2; divisor * divisor <= n; divisor++) if (n % divisor === 0) return false;
  return n > 1;
});
// Int32Array, because JavaScript computes with 32 bits signed
const START = Int32Array.from(PRIMES.slice(0, 8), (prime) => fraction(Math.sqrt(prime)));  // section 5.3.3
const ROUND = Int32Array.from(PRIMES, (prime) => fraction(Math.cbrt(prime)));              // section 4.2.2
const BLOCK = 64;  // bytes

/**
 * The SHA-256 of bytes as 64 hex digits, by the browser's own function where it has one.
 * @param {Uint8Array<ArrayBuffer>} bytes
 * @returns {Promise<string>}
 */
export async function hashOf(bytes) {
  const subtle = globalThis.crypto?.subtle;
  return subtle ? toHex(new Uint8Array(await subtle.digest('SHA-256', bytes))) : sha256(bytes);
}

/**
 * The SHA-256 of bytes as 64 hex digits, computed here.
 * @param {Uint8Array} bytes
 * @returns {string}
 */
export function sha256(bytes) {
  const state = Int32Array.from(START);
  const words = new Int32Array(BLOCK);
  const whole = bytes.length - bytes.length % BLOCK;
  addBlocks(state, words, new DataView(bytes.buffer, bytes.byteOffset, whole));
  addBlocks(state, words, new DataView(lastBlocks(bytes.subarray(whole), bytes.length).buffer));
  const result = new DataView(new ArrayBuffer(32));
  state.forEach((word, index) => result.setInt32(4 * index, word));
  return toHex(new Uint8Array(result.buffer));
}

/**
 * The end of a message with its padding: a bit 1, zeros, and the message's length in bits (section 5.1.1).
 * @param {Uint8Array} rest
 * @param {number} length of the whole message in bytes
 */
function lastBlocks(rest, length) {
  const padded = new Uint8Array(rest.length < BLOCK - 8 ? BLOCK : 2 * BLOCK);
  padded.set(rest);
  padded[rest.length] = 0x80;
  const view = new DataView(padded.buffer);
  view.setUint32(padded.length - 8, Math.floor(length / 2 ** 29));
  view.setUint32(padded.length - 4, (length * 8) % 2 ** 32);
  return padded;
}

/**
 * Change the state by the blocks of a message (section 6.2.2).
 * @param {Int32Array} state
 * @param {Int32Array} words scratch, the message schedule
 * @param {DataView} blocks
 */
function addBlocks(state, words, blocks) {
  for (let at = 0; at < blocks.byteLength; at += BLOCK) {
    for (let t = 0; t < 16; t++) words[t] = blocks.getInt32(at + 4 * t);
    for (let t = 16; t < 64; t++) {
      const x = words[t - 15], y = words[t - 2];
      const s0 = (x >>> 7 | x << 25) ^ (x >>> 18 | x << 14) ^ x >>> 3;
      const s1 = (y >>> 17 | y << 15) ^ (y >>> 19 | y << 13) ^ y >>> 10;
      words[t] = words[t - 16] + s0 + words[t - 7] + s1 | 0;
    }
    addWords(state, words);
  }
}

/**
 * @param {Int32Array} state
 * @param {Int32Array} words the 64 words of a block's schedule
 */
function addWords(state, words) {
  let a = state[0], b = state[1], c = state[2], d = state[3];
  let e = state[4], f = state[5], g = state[6], h = state[7];
  for (let t = 0; t < 64; t++) {
    const s1 = (e >>> 6 | e << 26) ^ (e >>> 11 | e << 21) ^ (e >>> 25 | e << 7);
    const t1 = h + s1 + (e & f ^ ~e & g) + ROUND[t] + words[t] | 0;
    const s0 = (a >>> 2 | a << 30) ^ (a >>> 13 | a << 19) ^ (a >>> 22 | a << 10);
    const t2 = s0 + (a & b ^ a & c ^ b & c) | 0;
    h = g; g = f; f = e; e = d + t1 | 0;
    d = c; c = b; b = a; a = t1 + t2 | 0;
  }
  state[0] += a; state[1] += b; state[2] += c; state[3] += d;
  state[4] += e; state[5] += f; state[6] += g; state[7] += h;
}

/** @param {Uint8Array} bytes */
function toHex(bytes) {
  return Array.from(bytes, (byte) => byte.toString(16).padStart(2, '0')).join('');
}
