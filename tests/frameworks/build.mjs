// Build a page's script for each framework, with its own compiler, and pages out of README's form by the tools that people
// write with. Arguments: a file with the form. Writes out/*.js and out/pages.json.

import { mkdirSync, readFileSync, writeFileSync } from "node:fs";
import { transformAsync } from "@babel/core";
import { evaluate } from "@mdx-js/mdx";
import { autop } from "@wordpress/autop";
import solid from "babel-preset-solid";
import { build, transform } from "esbuild";
import markdown from "markdown-it";
import * as React from "react";
import { renderToStaticMarkup } from "react-dom/server";
import * as runtime from "react/jsx-runtime";
import { compile } from "svelte/compiler";

const compilers = {
  name: "compilers",
  setup(build) {
    build.onLoad({ filter: /solid\.jsx$/ }, async ({ path }) => {
      const { code } = await transformAsync(readFileSync(path, "utf8"), { filename: path, presets: [solid] });
      return { contents: code, loader: "js" };
    });
    build.onLoad({ filter: /\.svelte$/ }, ({ path }) => {
      const { js } = compile(readFileSync(path, "utf8"), { generate: "client" });
      return { contents: js.code, loader: "js" };
    });
  },
};

mkdirSync("out", { recursive: true });
const entries = { react: "react.jsx", preact: "preact.jsx", solid: "solid.jsx", svelte: "svelte.js", vue: "vue.js", lit: "lit.js", angular: "angular.js" };
for (const [name, entry] of Object.entries(entries)) {
  await build({
    entryPoints: { [name]: entry },
    outdir: "out",
    bundle: true,
    minify: true,
    format: "esm",
    jsx: "automatic",
    jsxImportSource: name === "preact" ? "preact" : "react",
    conditions: ["browser", "production"],
    alias: { vue: "vue/dist/vue.esm-bundler.js" },
    define: { "process.env.NODE_ENV": '"production"', __VUE_OPTIONS_API__: "true", __VUE_PROD_DEVTOOLS__: "false", __VUE_PROD_HYDRATION_MISMATCH_DETAILS__: "false" },
    plugins: [compilers],
    logLevel: "error",
  });
}
await build({ entryPoints: { htmx: "htmx.org" }, outdir: "out", bundle: true, logLevel: "error" });

const form = readFileSync(process.argv[2], "utf8").trim();
const words = "Some words.";
const { default: Mdx } = await evaluate(`${words}\n\n${form}\n\n${words}`, runtime);
const { code } = await transform(`page = <main>${form}</main>`, { loader: "jsx", jsx: "transform" });
const page = new Function("React", "let page;" + code + "return page")(React);
const pages = {
  HTML: form,
  "inside <p>": `<p>${words} ${form}</p>`,
  "WordPress' autop": autop(`${words}\n\n${form}\n\n${words}`),
  "WordPress' autop, in a paragraph": autop(`${words} ${form}\n${words}`),
  Markdown: markdown({ html: true }).render(`${words}\n\n${form}\n\n${words}`),
  MDX: renderToStaticMarkup(React.createElement(Mdx)),
  JSX: renderToStaticMarkup(page),
};
writeFileSync("out/pages.json", JSON.stringify(pages));
