// Standard input: an object of descriptions (.ksy), by name. Standard output: an object of the
// parsers in Python that the compiler makes of each.
const yaml = require("js-yaml");
const compiler = require("kaitai-struct-compiler");
const { readFileSync } = require("fs");

async function main() {
  const made = {};
  for (const [name, text] of Object.entries(JSON.parse(readFileSync(0, "utf8")))) {
    const files = await compiler.compile("python", yaml.load(text), { importYaml() { throw "none"; } }, false);
    made[name] = Object.values(files)[0];
  }
  process.stdout.write(JSON.stringify(made));
}

main().catch((error) => { console.error(String(error)); process.exit(1); });
