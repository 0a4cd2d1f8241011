// The workshop's journey by users who come and go: a closed model, in which each user waits for
// every answer and pauses for a second.
//
//   k6 run journey.js                            11 minutes, up to 1,000 users
//   k6 run -e STAGES=short journey.js            the same in a sixth of the time
//   k6 run -e STAGES=5s:20,5s:0 journey.js       any other stages: how long, and to how many users
//   k6 run -e THRESHOLDS=workshop journey.js     the workshop's limits instead of ours
//   k6 run -e PRODUCTS=P001,P002 journey.js      other products than P001, in turn
//   k6 run -e METHOD=gateway journey.js          another way to pay than the order's own, the wallet
//   k6 run -e RAMP_S=5 journey.js                sums up what comes after 5 s apart: `part:steady`

import { sleep } from "k6";
import exec from "k6/execution";
import * as shop from "./shop.js";

const STAGES = {
  journey: "2m:100,5m:500,2m:1000,2m:100",
  short: "20s:100,50s:500,20s:1000,20s:100",
};
const PRODUCTS = (__ENV.PRODUCTS || "P001").split(",");
const RAMP_MS = __ENV.RAMP_S ? shop.count("RAMP_S") * 1000 : 0;
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
  thresholds: {
    ...shop.thresholds(
      shop.ROUTES.products, shop.ROUTES.cart, shop.ROUTES.place, shop.ROUTES.pay,
    ),
    ...(RAMP_MS ? shop.steady(shop.ROUTES.place, shop.ROUTES.pay) : {}),
  },
  summaryTrendStats: shop.TREND_STATS,
};

export default function () {
  const user = `user_${__VU}`;
  const product = PRODUCTS[(__VU + __ITER) % PRODUCTS.length];
  if (RAMP_MS && exec.instance.currentTestRunDuration > RAMP_MS) {
    exec.vu.metrics.tags.part = "steady";
  }
  shop.browse();
  shop.putIntoCart(user, product);
  const id = shop.place(user, product);
  if (id) {
    shop.pay(user, id);
  }
  sleep(PAUSE_S);
}
