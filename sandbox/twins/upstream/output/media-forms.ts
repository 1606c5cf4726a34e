/** Forms of output that are data: audio and images, base64 in JSON. A token stands for a number of bytes. */
import { append, push, type OutputForm, type Part } from './form.ts';

const base64 = ({ data }: Part): string => data().toString('base64');

const imageUrl = (part: Part): string => `data:image/png;base64,${base64(part)}`;

const imagePart = (part: Part): object => ({ type: 'image_url', image_url: { url: imageUrl(part) }, index: 0 });

function listed(name: string, item: (part: Part) => unknown): OutputForm {
  return {
    countedAs: 'image',
    isData: true,
    chunk: (part) => ({ delta: { [name]: [item(part)] } }),
    whole: ({ message }, part) => push(message, name, item(part)),
  };
}

export const MEDIA_FORMS = {
  /** OpenAI's audio models: data and the words that are spoken. */
  audio: {
    countedAs: 'audio',
    isData: true,
    chunk: (part) => ({
      delta: { audio: { ...(part.isFirst && { id: part.id }), data: base64(part), transcript: part.text } },
    }),
    whole: ({ message }, part) => {
      message['audio'] = { id: part.id, expires_at: 1_893_456_000, data: base64(part), transcript: part.text };
    },
  },
  audio_data: {
    countedAs: 'audio',
    isData: true,
    chunk: (part) => ({ delta: { audio: { id: part.id, data: base64(part) } } }),
    whole: ({ message }, part) => {
      message['audio'] = { id: part.id, data: base64(part) };
    },
  },
  /** Words of an audio answer alone, which are counted as text. */
  audio_transcript: {
    countedAs: 'text',
    chunk: ({ id, text }) => ({ delta: { audio: { id, transcript: text } } }),
    whole: ({ message }, { id, text }) => {
      message['audio'] = { id, transcript: text };
    },
  },
  /** OpenRouter. */
  images: listed('images', imagePart),
  /** Gateways in front of Gemini: a part of the content. */
  image_parts: listed('content', imagePart),
  /** Gateways in front of Gemini: a picture in the text. */
  image_markdown: {
    countedAs: 'image',
    isData: true,
    chunk: (part) => ({ delta: { content: `![image](${imageUrl(part)})` } }),
    whole: ({ message }, part) => append(message, 'content', `![image](${imageUrl(part)})`),
  },
  /** A picture that is kept at the provider's: the answer has its address. */
  image_link: {
    ...listed('images', ({ id }) => ({
      type: 'image_url',
      image_url: { url: `https://images.provider.example/${id}.png` },
    })),
    isData: false,
    isShown: false,
  },
  /** A kind of data that is not known. */
  vendor_data: {
    countedAs: 'image',
    isData: true,
    chunk: (part) => ({ delta: { video: { b64_json: base64(part) } } }),
    whole: ({ message }, part) => {
      message['video'] = { b64_json: base64(part) };
    },
  },
} as const satisfies Record<string, OutputForm>;
