/**
 * What an audio file is, by its first bytes: its kind and its own sample rate, at which it must be decoded, because a
 * browser's resampler moves scores. Sources: RFC 9639 (FLAC), RFC 3533 and 7845 (Ogg, Opus), Vorbis I, ISO 11172-3 and
 * 13818-3 (MPEG audio), ISO 14496-3 and -12 (AAC, MP4), RFC 9559 (Matroska, WebM).
 */

import {RATES} from './samples.js';

export const HEAD = 1 << 18;  // bytes of a file that are looked at
const MPEG_RATES = [44100, 48000, 32000];  // Hz, version 1; version 2 has half, 2.5 a quarter
const AAC_RATES = [96000, 88200, 64000, 48000, 44100, 32000, 24000, 22050, 16000, 12000, 11025, 8000, 7350];

/** @typedef {{kind: string, rate: number | null}} Container  rate in Hz; null: not found */

/**
 * @param {Uint8Array} head  the first HEAD bytes, or all
 * @returns {Container | null}  null: not a kind of file that is known here
 */
export function identify(head) {
  const starts = (/** @type {string} */ text, at = 0) => textAt(head, at, text.length) === text;
  if ((starts('RIFF') || starts('RF64')) && starts('WAVE', 8)) return {kind: 'WAV', rate: null};
  if (starts('fLaC')) return {kind: 'FLAC', rate: flacRate(head, 0)};
  if (starts('OggS')) return ogg(head);
  if (starts('ftyp', 4)) return {kind: 'MP4', rate: mp4Rate(head)};
  if (starts('\x1a\x45\xdf\xa3')) return {kind: 'WebM', rate: webmRate(head)};
  if (starts('caff')) return {kind: 'CAF', rate: numberAt(head, 20).getFloat64(0) || null};
  return mpeg(head, starts('ID3') ? afterId3(head) : 0);
}

/**
 * Eight bytes, from which a number is read; zeros stand for those behind the end of a file that was cut.
 * @param {Uint8Array} bytes
 * @param {number} at
 */
function numberAt(bytes, at) {
  const eight = new Uint8Array(8);
  eight.set(bytes.subarray(at, at + 8));
  return new DataView(eight.buffer);
}

/** @param {Uint8Array} bytes @param {number} at @param {number} count  one character per byte */
export const textAt = (bytes, at, count) => String.fromCharCode(...bytes.subarray(at, at + count));

/**
 * STREAMINFO: 20 bits after 10 bytes.
 * @param {Uint8Array} head
 * @param {number} at  of "fLaC"
 */
function flacRate(head, at) {
  const [a = 0, b = 0, c = 0] = head.subarray(at + 18, at + 21);
  return (a << 12) | (b << 4) | (c >> 4) || null;
}

/**
 * @param {Uint8Array} head
 * @returns {Container}
 */
function ogg(head) {
  const packet = 27 + (head[26] ?? 0);  // after the page's header and its table of segments
  if (textAt(head, packet, 8) === 'OpusHead') return {kind: 'Ogg Opus', rate: 48000};  // a decoder's own rate
  if (textAt(head, packet, 7) === '\x01vorbis') {
    return {kind: 'Ogg Vorbis', rate: numberAt(head, packet + 12).getUint32(0, true) || null};
  }
  if (textAt(head, packet, 5) === '\x7fFLAC') return {kind: 'Ogg FLAC', rate: flacRate(head, packet + 9)};
  return {kind: 'Ogg', rate: null};
}

/**
 * The first frame of MPEG audio (MP1 to MP3) or of AAC in ADTS whose next frame begins where it says.
 * @param {Uint8Array} head
 * @param {number} begin
 * @returns {Container | null}
 */
function mpeg(head, begin) {
  for (let at = begin; at + 4 < Math.min(head.length, begin + 65536); at++) {
    const frame = mpegFrame(head, at);
    if (!frame) continue;
    const next = mpegFrame(head, at + frame.bytes);
    if (next?.rate === frame.rate || at + frame.bytes === head.length) return {kind: frame.kind, rate: frame.rate};
  }
  return null;
}

/** @param {Uint8Array} head @param {number} at */
function mpegFrame(head, at) {
  const [a = 0, b = 0, c = 0, d = 0, e = 0, f = 0] = head.subarray(at, at + 6);
  if (a !== 0xff || (b & 0xe0) !== 0xe0) return null;
  const layer = (b >> 1) & 3;  // 3: layer I, 2: II, 1: III, 0: ADTS
  if (layer === 0) {
    const rate = AAC_RATES[(c >> 2) & 15];
    const bytes = ((d & 3) << 11) | (e << 3) | (f >> 5);
    return (b & 0xf0) === 0xf0 && rate && bytes > 7 ? {kind: 'AAC', rate, bytes} : null;
  }
  const version = (b >> 3) & 3;  // 3: 1, 2: 2, 0: 2.5
  const base = MPEG_RATES[(c >> 2) & 3];
  const bitrate = bitrateOf(version, layer, c >> 4);
  if (version === 1 || !base || !bitrate) return null;
  const rate = base / (version === 3 ? 1 : version === 2 ? 2 : 4);
  const padding = (c >> 1) & 1;
  const samples = layer === 3 ? 384 : layer === 1 && version !== 3 ? 576 : 1152;
  const slot = layer === 3 ? 4 : 1;  // bytes
  const bytes = slot * (Math.floor(samples * bitrate / (8 * slot) / rate) + padding);
  return {kind: 'MP3', rate, bytes};
}

/**
 * Bits per second of an MPEG audio frame; 0: free or forbidden.
 * @param {number} version
 * @param {number} layer
 * @param {number} index
 */
function bitrateOf(version, layer, index) {
  const tables = {
    v1l1: [0, 32, 64, 96, 128, 160, 192, 224, 256, 288, 320, 352, 384, 416, 448],
    v1l2: [0, 32, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320, 384],
    v1l3: [0, 32, 40, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320],
    v2l1: [0, 32, 48, 56, 64, 80, 96, 112, 128, 144, 160, 176, 192, 224, 256],
    v2: [0, 8, 16, 24, 32, 40, 48, 56, 64, 80, 96, 112, 128, 144, 160],
  };
  const first = version === 3;
  const [one, two, three] = first ? [tables.v1l1, tables.v1l2, tables.v1l3] : [tables.v2l1, tables.v2, tables.v2];
  const table = layer === 3 ? one : layer === 2 ? two : three;
  return 1000 * (table[index] ?? 0);
}

/** @param {Uint8Array} head */
function afterId3(head) {
  const [a = 0, b = 0, c = 0, d = 0] = head.subarray(6, 10);  // 7 bits each
  return 10 + ((a << 21) | (b << 14) | (c << 7) | d);
}

/**
 * The rate of the first audio track. AAC's AudioSpecificConfig has the true one if SBR doubles it (HE-AAC).
 * @param {Uint8Array} bytes  with the box `moov`, or its beginning
 * @returns {number | null}
 */
export function mp4Rate(bytes) {
  const sample = search(bytes, 'mp4a', search(bytes, 'stsd'));
  if (sample >= 0) return aacRate(bytes, sample) ?? (numberAt(bytes, sample + 28).getUint16(0) || null);  // 16.16
  const flac = search(bytes, 'dfLa');
  if (flac >= 0) return flacRate(bytes, flac + 4);
  return search(bytes, 'dOps') >= 0 ? 48000 : null;
}

/**
 * The rate in AudioSpecificConfig: in the box `esds` of a sample entry, within descriptors 3, 4 and 5.
 * @param {Uint8Array} bytes
 * @param {number} sample
 */
function aacRate(bytes, sample) {
  const esds = search(bytes, 'esds', sample);
  if (esds < 0) return null;
  const afterLength = (/** @type {number} */ tag) => {
    let at = tag + 1;
    while ((bytes[at] ?? 0) & 0x80) at++;
    return at + 1;
  };
  const config = afterLength(afterLength(afterLength(esds + 8) + 3) + 13);
  const [a = 0, b = 0, c = 0] = bytes.subarray(config, config + 3);
  const type = a >> 3;  // 5 and 29: SBR, and the rate after it follows
  const index = ((a & 7) << 1) | (b >> 7);
  const extended = ((b & 7) << 1) | (c >> 7);
  return AAC_RATES[type === 5 || type === 29 ? extended : index] ?? null;
}

/**
 * SamplingFrequency (0xB5), or 48 kHz for Opus.
 * @param {Uint8Array} head
 */
function webmRate(head) {
  if (search(head, 'A_OPUS') >= 0) return 48000;
  for (let at = Math.max(0, search(head, 'A_') - 64); at + 10 < head.length; at++) {
    if (head[at] !== 0xb5) continue;
    const size = head[at + 1];
    const value = numberAt(head, at + 2);
    const rate = size === 0x88 ? value.getFloat64(0) : size === 0x84 ? value.getFloat32(0) : 0;
    if (Number.isInteger(rate) && rate >= RATES.lowest && rate <= RATES.highest) return rate;
  }
  return null;
}

/**
 * Where a text of single bytes lies; -1: nowhere.
 * @param {Uint8Array} bytes
 * @param {string} text
 * @param {number} [from]  -1: do not look
 */
function search(bytes, text, from = 0) {
  const first = text.charCodeAt(0);
  for (let at = from < 0 ? -1 : bytes.indexOf(first, from); at >= 0; at = bytes.indexOf(first, at + 1)) {
    if (textAt(bytes, at, text.length) === text) return at;
  }
  return -1;
}
