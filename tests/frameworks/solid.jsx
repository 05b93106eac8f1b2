import { render } from "solid-js/web";

render(() => <click-counter name="post-solid" single />, document.querySelector("main"));
