/** All usage shapes by name, and how an answer is told which of them to report and where. */
import { BadInput, readBoolean, readChoice } from '../../kit/input.ts';
import { listOf, readFields } from '../fields.ts';
import { NATIVE_SHAPES } from './native.ts';
import { ODD_SHAPES } from './oddities.ts';
import { SERVER_SHAPES } from './servers.ts';
import { USAGE_PLACES, type UsagePlace, type UsageShape } from './shape.ts';
import { VENDOR_SHAPES } from './vendors.ts';

const SHAPES = { ...VENDOR_SHAPES, ...SERVER_SHAPES, ...NATIVE_SHAPES, ...ODD_SHAPES };

export type UsageShapeName = keyof typeof SHAPES;

export const USAGE_SHAPES: Readonly<Record<UsageShapeName, UsageShape>> = SHAPES;

export const USAGE_SHAPE_NAMES = Object.keys(SHAPES) as UsageShapeName[];

/** One report of usage in an answer. */
export interface UsageReportAt {
  readonly shape: UsageShapeName;
  readonly place: UsagePlace;
}

export interface UsageForm {
  readonly reports: readonly UsageReportAt[];
  /** Sent although the request did not ask for it. */
  readonly unasked: boolean;
}

/** As it is given in the knobs. */
export interface UsageInput {
  /** One shape at its own places. */
  readonly shape?: UsageShapeName;
  /** Other places for the shape. */
  readonly places?: readonly UsagePlace[];
  /** Or several shapes, each at a place; in the order given where the place is the same. */
  readonly reports?: readonly UsageReportAt[];
  readonly unasked?: boolean;
}

export const DEFAULT_USAGE: UsageForm = { reports: [{ shape: 'openai', place: 'own' }], unasked: false };

const readShape = (value: unknown, field: string): UsageShapeName => readChoice(value, field, USAGE_SHAPE_NAMES);
const readPlace = (value: unknown, field: string): UsagePlace => readChoice(value, field, USAGE_PLACES);

export function readUsageForm(value: unknown, field: string): UsageForm {
  const input = readFields<UsageInput>(value, field, {
    shape: readShape,
    places: listOf(readPlace),
    reports: listOf(readReport),
    unasked: readBoolean,
  });
  if ((input.shape === undefined) === (input.reports === undefined)) {
    throw new BadInput(`'${field}' needs 'shape' or 'reports'.`, field);
  }
  if (input.shape === undefined) return { reports: input.reports ?? [], unasked: input.unasked ?? false };
  const { shape } = input;
  const { places, isUnasked = false } = USAGE_SHAPES[shape];
  return {
    reports: (input.places ?? places).map((place) => ({ shape, place })),
    unasked: input.unasked ?? isUnasked,
  };
}

function readReport(value: unknown, field: string): UsageReportAt {
  const { shape, place } = readFields<UsageReportAt>(value, field, { shape: readShape, place: readPlace });
  if (shape === undefined || place === undefined) throw new BadInput(`'${field}' needs 'shape' and 'place'.`, field);
  return { shape, place };
}
