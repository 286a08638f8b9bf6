/** Placeholder: only equal rates. */
export class Resampler {
  /** @param {number} from @param {number} to */
  constructor(from, to) { if (from !== to) throw new Error('not yet'); }
  /** @param {Float32Array} samples */
  process(samples) { return samples; }
  flush() { return new Float32Array(0); }
}
