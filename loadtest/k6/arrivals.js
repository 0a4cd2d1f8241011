// Customers who arrive at a fixed rate, whether or not the shop keeps up: an open model. Each makes
// the journey once, without a pause. A rate after the other, from low to high.
//
//   k6 run arrivals.js                                 25, 50 and 100 a second, 20 s each
//   k6 run -e RATES=10,200 -e SECONDS=5 arrivals.js
//
// A customer whom no virtual user was free to play is dropped, and a threshold fails: then k6, not
// the shop, was too slow, or the shop far too slow.

import exec from "k6/execution";
import * as shop from "./shop.js";

const PRODUCTS = 100;
const USERS = 10000; // that the seed gives money to
const SECONDS = shop.count("SECONDS", 20);
const JOURNEY_S = 4; // the longest for which there are virtual users enough
const USERS_AT_LEAST = 20;
const GAP_S = 2; // between rates: a shop that keeps up has served the last customer by then
const RATES = (__ENV.RATES || "25,50,100").split(",").map(Number);
if (RATES.some((rate) => !Number.isInteger(rate) || rate < 1)) {
  throw new Error(`RATES is ${__ENV.RATES}; give whole numbers above 0, as in 25,50`);
}

function scenario(rate, place) {
  return {
    executor: "constant-arrival-rate",
    rate,
    timeUnit: "1s",
    duration: `${SECONDS}s`,
    startTime: `${place * (SECONDS + GAP_S)}s`,
    preAllocatedVUs: Math.max(JOURNEY_S * rate, USERS_AT_LEAST), // one made later comes too late
  };
}

export const options = {
  scenarios: Object.fromEntries(
    RATES.map((rate, place) => [`rate_${rate}`, scenario(rate, place)]),
  ),
  thresholds: {
    ...shop.thresholds(
      shop.ROUTES.products, shop.ROUTES.cart, shop.ROUTES.place, shop.ROUTES.pay,
    ),
    ...Object.fromEntries(
      RATES.map((rate) => [`http_req_duration{scenario:rate_${rate}}`, ["max>=0"]]),
    ),
    dropped_iterations: ["count==0"],
  },
  summaryTrendStats: shop.TREND_STATS,
};

export default function () {
  const number = exec.scenario.iterationInTest;
  const user = `user_${1 + (number % USERS)}`;
  const product = `P${String(1 + (number % PRODUCTS)).padStart(3, "0")}`;
  shop.browse();
  shop.putIntoCart(user, product);
  const id = shop.place(user, product);
  if (id) {
    shop.pay(user, id);
  }
}
