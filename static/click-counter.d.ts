// The types of <click-counter>, for TypeScript and for JSX.

/** Shows a count, and counts a click. */
export declare class ClickCounter extends HTMLElement {
  /** The counter; empty: the server's default one. */
  name: string;
  /** Only show the count. */
  readonly: boolean;
  /** This visitor counts once, as far as this browser's storage tells. */
  single: boolean;
  /** How to write the count, like "{} likes" or "{} like|{} likes". */
  format: string;
  /** Also show the clicks of the last 30 days. */
  history: boolean;
  /** The count that the server has given last; null until then. */
  readonly value: number | null;
}

export interface ClickCounterEvents {
  /** Another count is shown. */
  "click-counter-value": CustomEvent<{ name: string; value: number }>;
  /** A click of this visitor was counted. */
  "click-counter-counted": CustomEvent<{ name: string; value: number }>;
  /** So many clicks wait for the server. */
  "click-counter-waiting": CustomEvent<{ name: string; waiting: number }>;
  /** A click will never be counted. */
  "click-counter-refused": CustomEvent<{ name: string; reason: string }>;
  /** There is no such counter. */
  "click-counter-missing": CustomEvent<{ name: string; reason: string }>;
}

type ClickCounterProperties = Partial<Pick<ClickCounter, "name" | "readonly" | "single" | "format" | "history">> & {
  [Event in keyof ClickCounterEvents as `on${Event}`]?: (event: ClickCounterEvents[Event]) => void;
};

declare global {
  interface HTMLElementTagNameMap {
    "click-counter": ClickCounter;
  }
  interface GlobalEventHandlersEventMap extends ClickCounterEvents {}
}

// @ts-ignore: only where there is React
declare module "react" {
  namespace JSX {
    interface IntrinsicElements {
      // @ts-ignore: only where there are types of React
      "click-counter": ClickCounterProperties & DetailedHTMLProps<HTMLAttributes<ClickCounter>, ClickCounter>;
    }
  }
}
