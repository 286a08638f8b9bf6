// A classic script, for browsers and addresses in which the page's modules do not run: it says why, and what to do.
(function () {
  'use strict';
  /** @param {string} title @param {string} text */
  function say(title, text) {
    var place = document.getElementById('first');
    if (!place || document.documentElement.className === 'started') return;
    place.textContent = '';
    place.appendChild(document.createElement('strong')).textContent = title;
    place.appendChild(document.createElement('p')).textContent = text;
    place.className = 'notice error now';
    document.documentElement.className = 'stopped';
    var state = document.getElementById('state-text');
    if (state) state.textContent = 'Not loaded';
  }
  var browsers = 'Use Chrome or Edge 105, Firefox 121, Safari 16.4, or newer.';
  function check() {
    if (location.protocol === 'file:') {
      say('This page was opened from a file.', 'Browsers run its modules only from a web server. In the folder of this ' +
        'file, run\npython3 -m http.server 8000\nand open http://localhost:8000 (or run: satexport web --serve FOLDER).');
    } else if (!('noModule' in HTMLScriptElement.prototype) || typeof WebAssembly === 'undefined') {
      say('This browser is too old for this page.', 'It has no JavaScript modules or no WebAssembly. ' + browsers);
    }
  }
  window.addEventListener('error', function (event) {
    var target = /** @type {any} */ (event.target);
    if (location.protocol === 'file:') return;
    if (target && target.tagName === 'SCRIPT') {
      say('A part of this page is missing.', 'A module that the page needs could not be loaded. Reload the page; if ' +
        'that does not help, copy the whole bundle to the server again.');
    } else if (event.message) {
      say('The page could not start.', 'The browser said: ' + event.message + '. ' + browsers);
    }
  }, true);
  document.addEventListener('DOMContentLoaded', check);
})();
