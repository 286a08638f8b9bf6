/**
 * Resample a stream of audio as soxr HQ does, which `satexport run` uses: a browser's own resampler moves the scores.
 *
 * The filter is a sinc with a Kaiser window (J. F. Kaiser, 1974), whose three constants below were fitted to impulse
 * responses of soxr HQ; tests/backends/web/test_resample.py compares both on noise, at ten rates. Output sample n is at
 * the time n / rate, without delay: it is the sum, in float64, of the input samples around that time, each multiplied
 * by the filter's value at its distance. It does not depend on how the input was cut into blocks.
 */

const CUTOFF = 0.956872;         // of the lower Nyquist frequency, where the response is 1/2: between 0.913 and 1
const ATTENUATION = 127.03;      // dB of the stop band, with one stage
const TRANSITION = 0.0856;       // its width, of the lower Nyquist frequency
const MAX_TABLE = 1 << 19;       // coefficients; if all phases have more, coefficients are interpolated
const PHASES_PER_PERIOD = 1024;  // of the interpolated table, in a period of the lower rate: an error of -125 dB

export class Resampler {
  #up;              // the reduced ratio of the rates is #up / #down
  #down;
  #filter;
  #input;           // samples from the first one that the next output needs
  #at = 0;          // index in it of the first sample that the next output needs
  #phase = 0;       // of the next output, in 1 / #up of an input sample
  #received = 0;
  #produced = 0;

  /**
   * @param {number} from whole rate of the input in Hz
   * @param {number} to whole rate of the output in Hz; if both are equal, samples are returned as they are
   */
  constructor(from, to) {
    const divisor = greatestDivisor(from, to);
    this.#up = to / divisor;
    this.#down = from / divisor;
    this.#filter = from === to ? null : filterFor(this.#up, this.#down);
    this.#input = new Float32Array(this.#filter?.reach ?? 0);
  }

  /**
   * Add samples. Returns the output samples for which everything is there.
   * @param {Float32Array} samples
   * @returns {Float32Array}
   */
  process(samples) {
    if (!this.#filter) return samples;
    this.#received += samples.length;
    return this.#produce(samples);
  }

  /** Output samples, not whole, that the input received so far gives and that are not produced yet. */
  get waiting() {
    return this.#received * this.#up / this.#down - this.#produced;
  }

  /** The rest of the output, with silence after the last sample: as much as the input's length gives, rounded. */
  flush() {
    if (!this.#filter) return new Float32Array(0);
    const total = Math.floor((2 * this.#received * this.#up + this.#down) / (2 * this.#down));
    const left = total - this.#produced;
    return this.#produce(new Float32Array(this.#filter.reach)).subarray(0, left);
  }

  /** @param {Float32Array} samples */
  #produce(samples) {
    const filter = /** @type {Filter} */ (this.#filter), up = this.#up, down = this.#down;
    const input = new Float32Array(this.#input.length + samples.length);
    input.set(this.#input);
    input.set(samples, this.#input.length);
    const room = input.length - this.#at - filter.taps;  // how far the next output may move
    const count = Math.max(0, Math.ceil(((room + 1) * up - this.#phase) / down));
    const output = new Float32Array(count);
    let at = this.#at, phase = this.#phase;
    for (let index = 0; index < count; index++) {
      output[index] = filter.apply(input, at, phase);
      phase += down;
      at += Math.floor(phase / up);
      phase %= up;
    }
    const used = Math.min(at, input.length);
    this.#input = input.slice(used);
    [this.#at, this.#phase] = [at - used, phase];
    this.#produced += count;
    return output;
  }
}

/** Coefficients for each phase. */
class Filter {
  #rows;
  #up;
  #phases;      // rows of the table, which has one more if they are interpolated
  #interpolated;

  /**
   * @param {number} up
   * @param {number} down
   */
  constructor(up, down) {
    const scale = Math.min(1, up / down);  // the lower rate, in that of the input
    const window = kaiser(ATTENUATION + 20 * Math.log10(stagesOf(up, down)));
    this.reach = Math.ceil(window.half / scale);  // input samples before and after an output
    this.taps = 2 * this.reach + 1;
    this.#up = up;
    this.#interpolated = up * this.taps > MAX_TABLE;
    this.#phases = this.#interpolated ? Math.ceil(PHASES_PER_PERIOD * scale) : up;
    this.#rows = Array.from({length: this.#phases + 1}, (_, row) => {
      const phase = row / this.#phases;  // in input samples
      return Float32Array.from({length: this.taps}, (_, tap) => {
        const time = (tap - this.reach - phase) * scale;  // in periods of the lower rate
        return scale * CUTOFF * sinc(CUTOFF * time) * window.at(time);
      });
    });
  }

  /**
   * One output sample.
   * @param {Float32Array} input
   * @param {number} at index of the first input sample
   * @param {number} phase in 1 / up of an input sample
   */
  apply(input, at, phase) {
    if (!this.#interpolated) return product(input, at, this.#rows[phase]);
    const place = phase / this.#up * this.#phases, row = Math.floor(place);
    const before = product(input, at, this.#rows[row]), after = product(input, at, this.#rows[row + 1]);
    return before + (place - row) * (after - before);
  }
}

/**
 * The number of stages of soxr HQ; each adds its part to the error in the stop band, and so all are designed for less.
 * Its last stage for other ratios than 2^n and 3 * 2^n lowers the highest frequencies by 0.01 dB, which is not imitated.
 * @param {number} up
 * @param {number} down
 */
function stagesOf(up, down) {
  let odd = up * down;
  while (odd % 2 === 0) odd /= 2;
  return Math.max(1, Math.floor(Math.log2(down / up))) + (odd > 3 ? 1 : 0);
}

/** @type {Map<string, Filter>} */
const filters = new Map();

/**
 * The filter of a ratio, designed once.
 * @param {number} up
 * @param {number} down
 */
function filterFor(up, down) {
  const key = `${up}/${down}`, filter = filters.get(key) ?? new Filter(up, down);
  filters.set(key, filter);
  return filter;
}

/**
 * The sum of products of samples and coefficients. Four sums do not wait for each other.
 * @param {Float32Array} input
 * @param {number} at
 * @param {Float32Array} row
 */
function product(input, at, row) {
  const whole = row.length - row.length % 4;
  let a = 0, b = 0, c = 0, d = 0;
  for (let tap = 0; tap < whole; tap += 4, at += 4) {
    a += input[at] * row[tap];
    b += input[at + 1] * row[tap + 1];
    c += input[at + 2] * row[tap + 2];
    d += input[at + 3] * row[tap + 3];
  }
  for (let tap = whole; tap < row.length; tap++, at++) a += input[at] * row[tap];
  return a + b + (c + d);
}

/**
 * Kaiser's window for an attenuation and TRANSITION, by his formulas. Times are in periods of the lower rate.
 * @param {number} attenuation dB
 */
function kaiser(attenuation) {
  const half = (attenuation - 7.95) / (2.285 * 2 * Math.PI * TRANSITION);  // of the window's width
  const beta = 0.1102 * (attenuation - 8.7), peak = bessel(beta);
  /** @param {number} time */
  const at = (time) => Math.abs(time) > half ? 0 : bessel(beta * Math.sqrt(1 - (time / half) ** 2)) / peak;
  return {half, at};
}

/** @param {number} x */
function sinc(x) {
  return x === 0 ? 1 : Math.sin(Math.PI * x) / (Math.PI * x);
}

/** The modified Bessel function of the first kind and order 0, by its power series. @param {number} x */
function bessel(x) {
  let sum = 1, term = 1;
  for (let k = 1; term > 1e-17 * sum; k++) {
    term *= (x / 2 / k) ** 2;
    sum += term;
  }
  return sum;
}

/**
 * @param {number} a
 * @param {number} b
 * @returns {number}
 */
function greatestDivisor(a, b) {
  return b ? greatestDivisor(b, a % b) : a;
}
