// Compiles the contracts with npm's solc and compares artifacts/ with the result, byte for byte:
//
//     node build.mjs [--write]
//
// --write replaces the artifacts instead. Settings are in compiler.json. Sources are named by their
// path from this folder, because solc hashes the names into the bytecode.

import { createHash } from 'node:crypto';
import { existsSync, mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import { createRequire } from 'node:module';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';

const ROOT = dirname(fileURLToPath(import.meta.url));
const CONTRACTS = ['Settlement', 'XOM', 'TestToken'];
const solc = createRequire(import.meta.url)('solc');

function read(name) {
  const own = join(ROOT, name);
  return readFileSync(existsSync(own) ? own : join(ROOT, 'node_modules', name), 'utf8');
}

function importSource(name) {
  try {
    return { contents: read(name) };
  } catch (error) {
    return { error: `${name}: ${error.code}` };
  }
}

function compile(settings) {
  const sources = {};
  for (const name of CONTRACTS) {
    sources[`src/${name}.sol`] = { content: read(`src/${name}.sol`) };
  }
  const parts = ['abi', 'metadata', 'evm.bytecode.object', 'evm.deployedBytecode.object'];
  const input = {
    language: 'Solidity',
    sources,
    settings: {
      ...settings,
      outputSelection: { '*': { '*': [...parts, 'evm.deployedBytecode.immutableReferences'] } },
    },
  };
  const output = JSON.parse(solc.compile(JSON.stringify(input), { import: importSource }));
  // Warnings are errors, but for the library's own.
  const errors = (output.errors ?? []).filter(
    (error) => error.severity === 'error' || !error.sourceLocation?.file.startsWith('@'),
  );
  if (errors.length) throw new Error(errors.map((error) => error.formattedMessage).join('\n'));
  return output.contracts;
}

function artifact(name, compiled, settings) {
  const metadata = JSON.parse(compiled.metadata);
  const sources = {};
  for (const source of Object.keys(metadata.sources).sort()) {
    sources[source] = `sha256:${createHash('sha256').update(read(source)).digest('hex')}`;
  }
  const references = Object.values(compiled.evm.deployedBytecode.immutableReferences)
    .flat()
    .sort((one, other) => one.start - other.start);
  return {
    contract: name,
    compiler: metadata.compiler.version,
    settings,
    sources,
    abi: compiled.abi,
    bytecode: `0x${compiled.evm.bytecode.object}`,
    deployedBytecode: `0x${compiled.evm.deployedBytecode.object}`,
    immutableReferences: references.map(({ start, length }) => ({ start, length })),
  };
}

function main(options) {
  const settings = JSON.parse(read('compiler.json'));
  const compiled = compile(settings);
  const stale = [];
  for (const name of CONTRACTS) {
    const made = artifact(name, compiled[`src/${name}.sol`][name], settings);
    const text = `${JSON.stringify(made, null, 1)}\n`;
    const path = join(ROOT, 'artifacts', `${name}.json`);
    if (existsSync(path) && readFileSync(path, 'utf8') === text) continue;
    stale.push(`artifacts/${name}.json`);
    if (options.includes('--write')) {
      mkdirSync(dirname(path), { recursive: true });
      writeFileSync(path, text);
    }
  }
  if (options.includes('--write')) {
    console.log(stale.length ? `written: ${stale.join(', ')}` : 'artifacts are as built');
    return 0;
  }
  if (stale.length) {
    console.error(`not what the sources compile to: ${stale.join(', ')} (./dev contracts --write)`);
    return 1;
  }
  console.log('artifacts are as built');
  return 0;
}

try {
  process.exitCode = main(process.argv.slice(2));
} catch (error) {
  console.error(error.message);
  process.exitCode = 1;
}
