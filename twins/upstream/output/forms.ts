/** All forms in which an answer can carry output, by name. */
import { MEDIA_FORMS } from './media-forms.ts';
import type { OutputForm } from './form.ts';
import { TEXT_FORMS } from './text-forms.ts';
import { TOOL_FORMS } from './tool-forms.ts';

const FORMS = { ...TEXT_FORMS, ...TOOL_FORMS, ...MEDIA_FORMS };

export type OutputFormName = keyof typeof FORMS;

export const OUTPUT_FORMS: Readonly<Record<OutputFormName, OutputForm>> = FORMS;

export const OUTPUT_FORM_NAMES = Object.keys(FORMS) as OutputFormName[];
