/** What was heard: the strongest scores of each chunk, bounded, so that hours of listening do not grow. */

export const LOWEST = 0.05;  // scores below this are not kept; the lowest threshold that the page offers
const STRONGEST = 16;  // scores kept per chunk, at most
export const MAX_CHUNKS = 21_600;  // 12 h at a hop of 2 s; about 6 MB
const DROPPED_AT_ONCE = 256;

/** @typedef {import('./satexport.js').Chunk} Chunk */
/**
 * @typedef {object} Source  a microphone session or a file
 * @property {string} name
 * @property {boolean} live  whether it is the microphone
 * @property {Date | null} begun  when its first sample was heard; null: a file
 * @property {number} offset  s on the timeline at which it begins
 * @property {number} lost  s of sound that the browser left out
 */
/**
 * @typedef {object} Heard  one chunk
 * @property {Source} source
 * @property {number} start  s of the source
 * @property {number} end
 * @property {number} at  s on the timeline, on which the sources follow one another
 * @property {Uint16Array} classes  of the kept scores, strongest first
 * @property {Float32Array} scores
 */

export class History {
  /** @param {number} [limit] chunks that are kept */
  constructor(limit = MAX_CHUNKS) {
    this.limit = limit;
    /** @type {Heard[]} */
    this.chunks = [];
    this.dropped = 0;  // chunks
    this.end = 0;  // s on the timeline
  }

  /**
   * Begin a source at the end of the timeline.
   * @param {string} name
   * @param {boolean} live
   * @returns {Source}
   */
  begin(name, live) {
    return {name, live, begun: live ? new Date() : null, offset: this.end, lost: 0};
  }

  /**
   * Keep a chunk of a source, and drop the oldest if there are too many.
   * @param {Source} source
   * @param {Chunk} chunk
   * @returns {Heard}
   */
  add(source, chunk) {
    const classes = strongest(chunk.scores);
    const heard = {
      source, start: chunk.start, end: chunk.end, at: source.offset + chunk.start, classes,
      scores: Float32Array.from(classes, (index) => chunk.scores[index] ?? 0),
    };
    this.chunks.push(heard);
    this.end = source.offset + chunk.end;
    if (this.chunks.length > this.limit + DROPPED_AT_ONCE) {
      this.chunks.splice(0, DROPPED_AT_ONCE);
      this.dropped += DROPPED_AT_ONCE;
    }
    return heard;
  }

  clear() {
    this.chunks = [];
    this.dropped = 0;
    this.end = 0;
  }
}

/**
 * The classes with the highest scores, strongest first.
 * @param {Float32Array} scores
 */
function strongest(scores) {
  const score = (/** @type {number} */ index) => scores[index] ?? 0;
  const kept = [];
  for (let index = 0; index < scores.length; index++) if (score(index) >= LOWEST) kept.push(index);
  return Uint16Array.from(kept.sort((a, b) => score(b) - score(a)).slice(0, STRONGEST));
}

/**
 * The classes of a chunk that reach the threshold, strongest first, with their scores.
 * @param {Heard} heard
 * @param {number} threshold
 * @returns {[number, number][]}
 */
export function above(heard, threshold) {
  /** @type {[number, number][]} */
  const found = [];
  heard.scores.forEach((score, place) => {
    if (score >= threshold) found.push([heard.classes[place] ?? 0, score]);
  });
  return found;
}
