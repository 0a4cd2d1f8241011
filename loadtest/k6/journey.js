// The workshop's journey by users who come and go: a closed model, in which each user waits for
// every answer and pauses for a second.
//
//   k6 run journey.js                            11 minutes, up to 1,000 users
//   k6 run -e STAGES=short journey.js            the same in a sixth of the time
//   k6 run -e STAGES=5s:20,5s:0 journey.js       any other stages: how long, and to how many users
//   k6 run -e THRESHOLDS=workshop journey.js     the workshop's limits instead of ours

import { sleep } from "k6";
import * as shop from "./shop.js";

const STAGES = {
  journey: "2m:100,5m:500,2m:1000,2m:100",
  short: "20s:100,50s:500,20s:1000,20s:100",
};
const PRODUCT = "P001";
const PAUSE_S = 1;

function stages(asked) {
  return (STAGES[asked] || asked).split(",").map((stage) => {
    const [duration, users] = stage.split(":");
    if (!/^\d+[sm]$/.test(duration) || !/^\d+$/.test(users)) {
      throw new Error(`STAGES is ${asked}; give stages as in 20s:100,5m:500`);
    }
    return { duration, target: Number(users) };
  });
}

export const options = {
  scenarios: {
    journey: { executor: "ramping-vus", startVUs: 1, stages: stages(__ENV.STAGES || "journey") },
  },
  thresholds: shop.thresholds(
    shop.ROUTES.products, shop.ROUTES.cart, shop.ROUTES.place, shop.ROUTES.pay,
  ),
  summaryTrendStats: shop.TREND_STATS,
};

export default function () {
  const user = `user_${__VU}`;
  shop.browse();
  shop.putIntoCart(user, PRODUCT);
  const id = shop.place(user, PRODUCT);
  if (id) {
    shop.pay(user, id);
  }
  sleep(PAUSE_S);
}
