// Which versions of browsers have what these scripts use, by MDN's browser-compat-data. Arguments: scripts. Prints a JSON
// object: for each feature, the versions of Chrome, Firefox and Safari that have it (null: none).
//
// A feature is syntax (acorn's nodes), a global or a member of a global (`AbortSignal.timeout`), or any other member
// (`.replaceAll`) that is not of a script's own name, for which the oldest of all interfaces with such a member counts.

import { readFileSync } from "node:fs";
import { parse } from "acorn";
import { ancestor, full } from "acorn-walk";

const { api, javascript } = JSON.parse(readFileSync("node_modules/@mdn/browser-compat-data/data.json", "utf8"));
const interfaces = { ...api, ...javascript.builtins, ...javascript.builtins.Intl };
const BROWSERS = ["chrome", "firefox", "safari"];

function versions({ __compat }) {
  return BROWSERS.map((browser) => {
    const found = [__compat.support[browser]].flat().filter((one) => !one.flags && !one.prefix && !one.alternative_name);
    const added = found.filter((one) => !one.version_removed).map((one) => String(one.version_added).replace("≤", ""));
    return added.filter((version) => /^\d/.test(version)).sort((a, b) => a - b)[0] ?? null;
  });
}

const members = new Map(); // by name: the oldest versions of all interfaces that have one
api.Document.adoptedStyleSheets.__compat = api.Document.adoptedStyleSheets.mutable.__compat; // they are changed
api.ShadowRoot.adoptedStyleSheets.__compat = api.Document.adoptedStyleSheets.__compat;
for (const one of Object.values(interfaces)) {
  for (const [name, feature] of Object.entries(one)) {
    if (!feature?.__compat) continue;
    const these = versions(feature);
    const others = members.get(name.replace(/_(static|event)$/, "")) ?? these;
    const older = (a, b) => (a === null ? b : b === null ? a : Number(a) < Number(b) ? a : b);
    members.set(name.replace(/_(static|event)$/, ""), these.map((version, index) => older(version, others[index])));
  }
}

const SYNTAX = {
  PropertyDefinition: ({ static: isStatic }) => (isStatic ? "classes.static.class_fields" : "classes.public_class_fields"),
  PrivateIdentifier: () => "classes.private_class_fields",
  MethodDefinition: ({ key }) => (key.type === "PrivateIdentifier" ? "classes.private_class_methods" : undefined),
  StaticBlock: () => "classes.static.initialization_blocks",
  ChainExpression: () => "operators.optional_chaining",
  ImportExpression: () => "operators.import",
  MetaProperty: ({ meta }) => `operators.${meta.name === "import" ? "import_meta" : "new_target"}`,
  LogicalExpression: ({ operator }) => (operator === "??" ? "operators.nullish_coalescing" : undefined),
  AssignmentExpression: ({ operator }) =>
    ({ "??=": "operators.nullish_coalescing_assignment", "&&=": "operators.logical_and_assignment", "||=": "operators.logical_or_assignment" })[operator],
};

const own = new Set(); // names that the scripts give themselves
const programs = process.argv.slice(2).map((file) => {
  const program = parse(readFileSync(file, "utf8"), { ecmaVersion: 2022, sourceType: "module" });
  full(program, ({ type, key, computed }) => {
    const isNamed = ["Property", "MethodDefinition", "PropertyDefinition"].includes(type) && !computed;
    if (isNamed && key.type === "Identifier") own.add(key.name);
  });
  return program;
});

const used = {};
for (const program of programs) {
  const declared = new Set();
  full(program, (node) => {
    if (node.type === "VariableDeclarator" && node.id.type === "Identifier") declared.add(node.id.name);
    if (node.id?.type === "Identifier") declared.add(node.id.name);
    if (node.type.startsWith("Import") && node.local) declared.add(node.local.name);
    for (const parameter of node.params ?? []) if (parameter.type === "Identifier") declared.add(parameter.name);
  });
  ancestor(program, {
    MemberExpression({ object, property, computed }) {
      if (computed || property.type !== "Identifier") return;
      const owner = object.type === "Identifier" && !declared.has(object.name) ? interfaces[object.name] : undefined;
      const feature = owner?.[`${property.name}_static`] ?? owner?.[property.name];
      if (feature?.__compat) used[`${object.name}.${property.name}`] = versions(feature);
      else if (members.has(property.name) && !own.has(property.name)) used[`.${property.name}`] = members.get(property.name);
    },
    Identifier({ name }) {
      if (!declared.has(name) && interfaces[name]?.__compat) used[name] = versions(interfaces[name]);
    },
    NewExpression({ callee: { name } }) {
      const feature = interfaces[name]?.[name];
      if (feature?.__compat && !declared.has(name)) used[`new ${name}`] = versions(feature);
    },
  });
  full(program, (node) => {
    const path = SYNTAX[node.type]?.(node);
    const feature = path?.split(".").reduce((one, step) => one?.[step], javascript);
    if (feature?.__compat) used[path] = versions(feature);
    else if (path) throw new Error(`The compat data has no ${path}.`);
  });
}
console.log(JSON.stringify(used));
