// Calls OpenAI's SDK for Node and prints what it gave back, as JSON.
// Usage: node walk.mjs <folder that holds node_modules> <base URL>

import { createRequire } from "node:module";
import { join } from "node:path";

const [folder, baseURL] = process.argv.slice(2);
const { OpenAI, toFile } = createRequire(join(folder, "/"))("openai");
const client = new OpenAI({ baseURL, apiKey: "sk-anything", maxRetries: 0, timeout: 20_000 });

async function models() {
  const names = [];
  for await (const model of client.models.list()) names.push(model.id);
  return names;
}

const question = { model: "gpt-5", messages: [{ role: "user", content: "Grüße from Node 👋" }] };

async function chat() {
  const completion = await client.chat.completions.create(question);
  return completion.choices[0].message.content;
}

async function streamedChat() {
  const pieces = [];
  const stream = await client.chat.completions.create({ ...question, stream: true });
  for await (const chunk of stream) pieces.push(chunk.choices[0]?.delta?.content ?? "");
  return { text: pieces.join(""), severalPieces: pieces.length > 2 };
}

async function response() {
  const created = await client.responses.create({ model: "gpt-5", input: "Hello" });
  const items = await client.responses.inputItems.list(created.id);
  return { text: created.output_text, input: items.data[0].content[0].text };
}

async function file() {
  const bytes = Buffer.from(Array.from({ length: 4096 }, (_, index) => index % 256));
  const upload = await toFile(bytes, "node.bin");
  const kept = await client.files.create({ file: upload, purpose: "assistants" });
  const content = Buffer.from(await (await client.files.content(kept.id)).arrayBuffer());
  return { name: kept.filename, size: kept.bytes, same: content.equals(bytes) };
}

async function error() {
  try {
    await client.models.retrieve("no-such-model");
  } catch (caught) {
    const upstream = caught.headers.get("x-upstream");
    return { kind: caught.constructor.name, status: caught.status, code: caught.code, upstream };
  }
  return null;
}

const results = {
  models: await models(),
  chat: await chat(),
  streamedChat: await streamedChat(),
  response: await response(),
  file: await file(),
  error: await error(),
};
console.log(JSON.stringify(results));
