import { html, render } from "lit";

render(html`<click-counter name="post-lit" single></click-counter>`, document.querySelector("main"));
