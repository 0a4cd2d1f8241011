// A flash sale: a crowd, all at once, for the few units of one hot product. Each user orders one
// and pays for it at once. Exactly the units are sold, everybody else is told 409.
//
//   k6 run -e PRODUCT=FLASH-1 -e UNITS=100 -e USERS=5000 -e AT_ONCE=500 flash-sale.js
//
// The product must be there with exactly UNITS units, and the users must have money.

import exec from "k6/execution";
import * as shop from "./shop.js";

const PRODUCT = __ENV.PRODUCT || "FLASH";
const UNITS = shop.count("UNITS", 100);
const USERS = shop.count("USERS", 5000);
const AT_ONCE = shop.count("AT_ONCE", 500);

shop.expectRefusals();

export const options = {
  scenarios: {
    sale: { executor: "shared-iterations", vus: AT_ONCE, iterations: USERS, maxDuration: "5m" },
  },
  thresholds: {
    ...shop.exactly(UNITS, USERS, shop.ROUTES.place, shop.ROUTES.pay),
    orders_confirmed: [`count==${UNITS}`],
  },
  summaryTrendStats: shop.TREND_STATS,
};

export default function () {
  const user = `user_${1 + exec.scenario.iterationInTest}`;
  const id = shop.placeIfLeft(user, PRODUCT);
  if (id) {
    shop.pay(user, id);
  }
}
