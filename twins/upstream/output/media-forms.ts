/** Forms of output that are data: audio and images, base64 in JSON. A token stands for a number of bytes. */
import { append, from, push, type Fields, type FormBody, type OutputForm, type Part } from './form.ts';

const base64 = ({ data }: Part): string => data().toString('base64');

const imageUrl = (part: Part): string => `data:image/png;base64,${base64(part)}`;

const imagePart = (part: Part): object => ({ type: 'image_url', image_url: { url: imageUrl(part) }, index: 0 });

function listed(name: string, item: (part: Part) => unknown): FormBody {
  return {
    countedAs: 'image',
    isData: true,
    chunk: (part) => ({ delta: { [name]: [item(part)] } }),
    whole: ({ message }, part) => push(message, name, item(part)),
  };
}

/** An object of audio in the delta; a message has all of it at once. */
function spoken(countedAs: OutputForm['countedAs'], audio: (part: Part) => Fields): FormBody {
  return {
    countedAs,
    isData: countedAs === 'audio',
    chunk: (part) => ({ delta: { audio: audio(part) } }),
    whole: ({ message }, part) => {
      message['audio'] = { id: part.id, expires_at: 1_893_456_000, ...audio(part) };
    },
  };
}

export const MEDIA_FORMS = {
  audio: from(
    'OpenAI guides, audio: data and the words that are spoken',
    spoken('audio', (part) => ({ ...(part.isFirst && { id: part.id }), data: base64(part), transcript: part.text })),
  ),
  audio_data: from(
    'OpenAI guides, audio: data alone',
    spoken('audio', (part) => ({ id: part.id, data: base64(part) })),
  ),
  audio_transcript: from(
    'OpenAI guides, audio: the words alone, which are counted as text',
    spoken('text', ({ id, text }) => ({ id, transcript: text })),
  ),
  images: from('OpenRouter docs, image generation', listed('images', imagePart)),
  image_parts: from('gateways in front of Gemini: a part of the content', listed('content', imagePart)),
  image_markdown: from('gateways in front of Gemini: a picture in the text', {
    countedAs: 'image',
    isData: true,
    chunk: (part) => ({ delta: { content: `![image](${imageUrl(part)})` } }),
    whole: ({ message }, part) => append(message, 'content', `![image](${imageUrl(part)})`),
  }),
  image_link: from('providers that keep the picture and send its address', {
    ...listed('images', ({ id }) => ({
      type: 'image_url',
      image_url: { url: `https://images.provider.example/${id}.png` },
    })),
    isData: false,
    isShown: false,
  }),
  vendor_data: from('a kind of data that is not known yet', {
    countedAs: 'image',
    isData: true,
    chunk: (part) => ({ delta: { video: { b64_json: base64(part) } } }),
    whole: ({ message }, part) => {
      message['video'] = { b64_json: base64(part) };
    },
  }),
} as const satisfies Record<string, OutputForm>;
