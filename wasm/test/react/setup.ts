/** Before the tests of React: the version that is wanted, and what React wants of a test's surroundings. */
import { cleanup } from "@testing-library/react";
import { version } from "react";
import { version as domVersion } from "react-dom";
import { afterEach } from "vitest";

(globalThis as { IS_REACT_ACT_ENVIRONMENT?: boolean }).IS_REACT_ACT_ENVIRONMENT = true;

const wanted = `${process.env["REACT"] ?? "19"}.`;
if (!version.startsWith(wanted) || !domVersion.startsWith(wanted)) throw new Error(`these tests are not for React ${version} and ${domVersion}`);

afterEach(cleanup);
