/*
 * Builds the page's script: `make web`. With --check it writes nothing and says whether the committed files are what
 * would be built.
 *
 * The same sources and the same lock give the same bytes on every machine. Beside the script stand its licences and
 * `build.json`, which records the digest of everything it was built from: that can be checked where there is no Node.
 */

import { createHash } from "node:crypto";
import { readFile, readdir, writeFile } from "node:fs/promises";
import { fileURLToPath } from "node:url";

import { build } from "esbuild";

const HERE = fileURLToPath(new URL(".", import.meta.url));
const OUT = fileURLToPath(new URL("../src/sockade/web/", import.meta.url));
// The SDK carries `events` within it.
const LICENSED = ["centrifuge", "events"];

const digest = (bytes) => createHash("sha256").update(bytes).digest("hex");

async function script() {
  const { outputFiles } = await build({
    absWorkingDir: HERE,
    entryPoints: ["src/app.js"],
    bundle: true,
    format: "esm",
    target: "es2022",
    charset: "utf8",
    minify: true,
    legalComments: "inline",
    banner: { js: "/*! Sockade's chat page. Sources: web/src. With the SDK centrifuge (MIT): see licenses.txt. */" },
    write: false,
  });
  return outputFiles[0].contents;
}

async function licenses() {
  const texts = [];
  for (const name of LICENSED) {
    const { version } = JSON.parse(await readFile(`${HERE}node_modules/${name}/package.json`, "utf8"));
    texts.push(`${name} ${version}\n\n${(await readFile(`${HERE}node_modules/${name}/LICENSE`, "utf8")).trim()}\n`);
  }
  return Buffer.from(`app.js contains the following packages.\n\n${texts.join(`\n${"-".repeat(80)}\n\n`)}`);
}

async function record(outputs) {
  const sources = (await readdir(`${HERE}src`)).filter((name) => name.endsWith(".js")).map((name) => `src/${name}`);
  const inputs = ["build.mjs", "package.json", "package-lock.json", ...sources].sort();
  const digests = async (names, read) =>
    Object.fromEntries(await Promise.all(names.map(async (name) => [name, digest(await read(name))])));
  const recorded = {
    inputs: await digests(inputs, (name) => readFile(HERE + name)),
    outputs: await digests(Object.keys(outputs), (name) => outputs[name]),
  };
  return Buffer.from(`${JSON.stringify(recorded, null, 2)}\n`);
}

const outputs = { "app.js": await script(), "licenses.txt": await licenses() };
const files = { [`${OUT}app.js`]: outputs["app.js"], [`${OUT}licenses.txt`]: outputs["licenses.txt"] };
files[`${HERE}build.json`] = await record(outputs);

for (const [path, bytes] of Object.entries(files)) {
  if (!process.argv.includes("--check")) {
    await writeFile(path, bytes);
  } else if (!(await readFile(path).catch(() => Buffer.alloc(0))).equals(Buffer.from(bytes))) {
    console.error(`${path} is not what its sources make: run make web.`);
    process.exitCode = 1;
  }
}
