import { render } from "preact";

render(<click-counter name="post-preact" single />, document.querySelector("main"));
