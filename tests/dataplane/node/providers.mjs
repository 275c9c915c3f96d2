// Calls Anthropic's and Google's SDKs for Node and prints what they return, as JSON.
// Usage: node providers.mjs <folder that holds node_modules> <Anthropic's base URL> <Google's>

import { mkdtemp, readFile, rm } from "node:fs/promises";
import { createRequire } from "node:module";
import { tmpdir } from "node:os";
import { join } from "node:path";

const [folder, claudeURL, googleURL] = process.argv.slice(2);
const installed = createRequire(join(folder, "/"));
const { Anthropic, toFile } = installed("@anthropic-ai/sdk");
const { GoogleGenAI } = installed("@google/genai");

const claude = new Anthropic({ baseURL: claudeURL, apiKey: "placeholder", maxRetries: 0, timeout: 20_000 });
const google = new GoogleGenAI({ apiKey: "placeholder", httpOptions: { baseUrl: googleURL } });
const bytes = Buffer.from(Array.from({ length: 4096 }, (_, index) => index % 256));
const question = {
  model: "claude-test",
  max_tokens: 10,
  messages: [{ role: "user", content: "Grüße from Node 👋" }],
};

async function claudeModels() {
  const names = [];
  for await (const model of claude.models.list()) names.push(model.id);
  return names;
}

async function claudeStream() {
  const pieces = [];
  for await (const event of await claude.messages.create({ ...question, stream: true })) {
    if (event.type === "content_block_delta") pieces.push(event.delta.text);
  }
  return { text: pieces.join(""), severalPieces: pieces.length > 2 };
}

async function claudeFile() {
  const kept = await claude.beta.files.upload({ file: await toFile(bytes, "node.bin") });
  const response = await claude.beta.files.download(kept.id);
  return Buffer.from(await response.arrayBuffer()).equals(bytes);
}

async function googleModels() {
  const names = [];
  for await (const model of await google.models.list()) names.push(model.name);
  return names;
}

async function googleStream() {
  const pieces = [];
  const asked = { model: "gemini-test", contents: "one two" };
  for await (const chunk of await google.models.generateContentStream(asked)) pieces.push(chunk.text);
  return pieces;
}

async function googleFile() {
  const config = { mimeType: "application/octet-stream" };
  const kept = await google.files.upload({ file: new Blob([bytes]), config });
  const scratch = await mkdtemp(join(tmpdir(), "genai-"));
  try {
    const downloadPath = join(scratch, "file");
    await google.files.download({ file: kept, downloadPath });
    return (await readFile(downloadPath)).equals(bytes);
  } finally {
    await rm(scratch, { recursive: true });
  }
}

async function googleLive() {
  const { promise, resolve, reject } = (() => {
    const made = {};
    made.promise = new Promise((...both) => ([made.resolve, made.reject] = both));
    return made;
  })();
  const onmessage = (message) => message.setupComplete && resolve(true);
  const session = await google.live.connect({
    model: "gemini-test",
    callbacks: { onmessage, onerror: reject, onclose: () => resolve(false) },
  });
  const ready = await promise;
  session.close();
  return ready;
}

const results = {
  claudeModels: await claudeModels(),
  claudeMessage: (await claude.messages.create(question)).content[0].text,
  claudeStream: await claudeStream(),
  claudeBatch: (await claude.messages.batches.create({ requests: [] })).processing_status,
  claudeFile: await claudeFile(),
  googleModels: await googleModels(),
  googleText: (await google.models.generateContent({ model: "gemini-test", contents: "Hello" })).text,
  googleStream: await googleStream(),
  googleFile: await googleFile(),
  googleLive: await googleLive(),
};
console.log(JSON.stringify(results));
