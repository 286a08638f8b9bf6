/** The level meter: RMS as a bar, peak as a line, in dB below full scale (dBFS). */

const LOWEST = -60;  // dBFS at the left end
const FALL = 0.6;  // dB per message by which the peak's line falls

export class Meter {
  /**
   * @param {HTMLElement} place
   * @param {HTMLElement} bar  role="meter"
   * @param {HTMLElement} text
   */
  constructor(place, bar, text) {
    this.place = place;
    this.bar = bar;
    this.text = text;
    this.peak = LOWEST;
    this.told = 0;  // s at which the text last changed
    this.frame = 0;
  }

  /** @param {boolean} shown */
  show(shown) {
    this.place.hidden = !shown;
    this.peak = LOWEST;
    this.told = 0;
    this.bar.removeAttribute('data-clipped');
  }

  /**
   * @param {{peak: number, rms: number}} level
   * @param {number} seconds  captured so far
   */
  set({peak, rms}, seconds) {
    this.peak = Math.max(decibels(peak), this.peak - FALL);
    if (peak >= 1) this.bar.setAttribute('data-clipped', '');
    const loudness = decibels(rms);
    if (!this.frame) this.frame = requestAnimationFrame(() => this.draw(loudness));
    if (seconds - this.told < 0.5) return;
    this.told = seconds;
    const words = loudness <= LOWEST ? 'silent' : `${loudness.toFixed(0).replace('-', '\u2212')} dBFS`;
    this.text.textContent = words;
    this.bar.setAttribute('aria-valuenow', loudness.toFixed(0));
    this.bar.setAttribute('aria-valuetext', words);
  }

  /** @param {number} loudness  dBFS */
  draw(loudness) {
    this.frame = 0;
    this.bar.style.setProperty('--rms', share(loudness).toFixed(3));
    this.bar.style.setProperty('--peak', share(this.peak).toFixed(3));
  }
}

/** @param {number} amplitude  full scale is 1 */
const decibels = (amplitude) => Math.max(LOWEST, Math.min(0, 20 * Math.log10(amplitude)));

/** @param {number} level  dBFS */
const share = (level) => 1 - level / LOWEST;
