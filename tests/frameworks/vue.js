import { createApp } from "vue";

const app = createApp({ template: '<click-counter name="post-vue" single />' });
app.config.compilerOptions.isCustomElement = (tag) => tag === "click-counter";
app.mount("main");
