import { createRoot } from "react-dom/client";

createRoot(document.querySelector("main")).render(<click-counter name="post-react" single />);
