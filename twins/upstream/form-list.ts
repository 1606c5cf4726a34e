/** The forms of answers of the twin, by name and with their source, for tests that try them all. */
import { ERROR_SHAPES } from './error-shapes.ts';
import { FINISH_PLACES } from './finish.ts';
import { ID_STYLES } from './ids.ts';
import { OUTPUT_FORMS } from './output/forms.ts';
import { USAGE_PLACES } from './usage/shape.ts';
import { USAGE_SHAPES } from './usage/shapes.ts';

export function listForms(): object {
  return {
    output_forms: mapped(OUTPUT_FORMS, ({ countedAs, isShown = true, isData = false, isCall = false, source }) => ({
      counted_as: countedAs,
      is_shown: isShown,
      is_data: isData,
      is_call: isCall,
      source,
    })),
    usage_shapes: mapped(USAGE_SHAPES, ({ tells, places, isUnasked = false, contradiction = null, source }) => ({
      tells,
      places,
      is_unasked: isUnasked,
      contradiction,
      source,
    })),
    error_shapes: mapped(ERROR_SHAPES, ({ source }) => ({ source })),
    usage_places: USAGE_PLACES,
    finish_places: FINISH_PLACES,
    id_styles: ID_STYLES,
  };
}

function mapped<T>(rows: Readonly<Record<string, T>>, view: (row: T) => object): Record<string, object> {
  return Object.fromEntries(Object.entries(rows).map(([name, row]) => [name, view(row)]));
}
