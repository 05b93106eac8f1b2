// What the element says, in German. A file like this one and its line in words.js add a language.

const klicks = (digits, number) => (number === 1 ? "1 Klick" : `${digits} Klicks`);

export default {
  lang: "de",
  like: "Gefällt mir",
  clicks: klicks,
  waiting: (clicks, number) =>
    `${clicks} ${number === 1 ? "wartet. Er wird" : "warten. Sie werden"} gezählt, sobald der Server erreichbar ist.`,
  refused: (clicks, number) => `${clicks} ${number === 1 ? "konnte" : "konnten"} nicht gezählt werden.`,
  forbidden: () => "Diese Website darf die Zahl nur zeigen.",
  again: () => "Das ist schon gedrückt. Es zählt einmal.",
  missing: () => "Diesen Zähler gibt es nicht.",
  unreadable: () => "Die Zahl ist gerade nicht lesbar.",
  chart: {
    lang: "de",
    title: "Klicks pro Tag (UTC)",
    day: "Tag",
    clicks: "Klicks",
    number: klicks,
    none: (days) => `Keine Klicks in den letzten ${days} Tagen.`,
    all: (clicks, day, number) => `${clicks}, ${number === 1 ? "" : "alle "}am ${day}.`,
    most: (clicks, days, day, number) => `${clicks} in den letzten ${days} Tagen, die meisten am ${day}: ${number}.`,
  },
};
