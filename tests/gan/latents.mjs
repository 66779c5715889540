// The latents of components/gan/latents.py, written from the papers: `node latents.mjs SIZE SEED...`, for each seed a
// line with the bits of its numbers as float32, in hexadecimal.

const M0 = 0xd2511f53, M1 = 0xcd9e8d57, W0 = 0x9e3779b9, W1 = 0xbb67ae85;

function high(a, b) {
  // The upper 32 bits of a product, from products of 16 bits.
  const a0 = a & 0xffff, a1 = a >>> 16, b0 = b & 0xffff, b1 = b >>> 16;
  const low = a0 * b0, cross = a1 * b0 + (low >>> 16), middle = a0 * b1 + (cross % 0x10000);
  return (a1 * b1 + Math.floor(cross / 0x10000) + Math.floor(middle / 0x10000)) >>> 0;
}

function philox(c0, c1, c2, c3) {
  let k0 = 0, k1 = 0;
  for (let round = 0; round < 10; round++) {
    const h0 = high(M0, c0), l0 = Math.imul(M0, c0) >>> 0, h1 = high(M1, c2), l1 = Math.imul(M1, c2) >>> 0;
    [c0, c1, c2, c3] = [(h1 ^ c1 ^ k0) >>> 0, l1, (h0 ^ c3 ^ k1) >>> 0, l0];
    k0 = (k0 + W0) >>> 0;
    k1 = (k1 + W1) >>> 0;
  }
  return [c0, c1, c2, c3];
}

const view = new DataView(new ArrayBuffer(8));

function log(x) {
  // fdlibm's e_log.c: x = 2^k (1 + f), sqrt(1/2) < 1 + f < sqrt(2). Here x is never subnormal.
  view.setFloat64(0, x);
  let k = ((view.getUint32(0) >>> 20) & 0x7ff) - 1023;
  view.setUint32(0, (view.getUint32(0) & 0x000fffff) | 0x3ff00000);
  let m = view.getFloat64(0);
  if (m >= Math.SQRT2) { m /= 2; k += 1; }
  const f = m - 1, s = f / (2 + f), z = s * s, hfsq = 0.5 * f * f;
  const R = z * (6.666666666666735130e-01 + z * (3.999999999940941908e-01 + z * (2.857142874366239149e-01 + z *
    (2.222219843214978396e-01 + z * (1.818357216161805012e-01 + z * (1.531383769920937332e-01 + z *
    1.479819860511658591e-01))))));
  return k * 6.93147180369123816490e-01 - ((hfsq - (s * (hfsq + R) + k * 1.90821492927058770002e-10)) - f);
}

const a = [3.3871328727963666080e0, 1.3314166789178437745e2, 1.9715909503065514427e3, 1.3731693765509461125e4,
  4.5921953931549871457e4, 6.7265770927008700853e4, 3.3430575583588128105e4, 2.5090809287301226727e3];
const b = [1, 4.2313330701600911252e1, 6.8718700749205790830e2, 5.3941960214247511077e3, 2.1213794301586595867e4,
  3.9307895800092710610e4, 2.8729085735721942674e4, 5.2264952788528545610e3];
const c = [1.42343711074968357734e0, 4.63033784615654529590e0, 5.76949722146069140550e0, 3.64784832476320460504e0,
  1.27045825245236838258e0, 2.41780725177450611770e-1, 2.27238449892691845833e-2, 7.74545014278341407640e-4];
const d = [1, 2.05319162663775882187e0, 1.67638483018380384940e0, 6.89767334985100004550e-1, 1.48103976427480074590e-1,
  1.51986665636164571966e-2, 5.47593808499534494600e-4, 1.05075007164441684324e-9];
const polynomial = (coefficients, x) => coefficients.reduceRight((value, next) => value * x + next);

function normal(word) {
  const p = (word + 0.5) / 4294967296, q = p - 0.5;
  if (Math.abs(q) <= 0.425) {
    const r = 0.180625 - q * q;
    return q * (polynomial(a, r) / polynomial(b, r));
  }
  const r = Math.sqrt(-log(q < 0 ? p : 1 - p)) - 1.6;
  const z = polynomial(c, r) / polynomial(d, r);
  return q < 0 ? -z : z;
}

const [size, ...seeds] = process.argv.slice(2).map(Number);
for (const seed of seeds) {
  const upper = Math.floor(seed / 4294967296), words = [];
  for (let block = 0; words.length < size; block++) {
    words.push(...philox(block, (seed - upper * 4294967296) >>> 0, upper >>> 0, 0));
  }
  console.log(words.slice(0, size).map((word) => {
    view.setFloat32(0, Math.fround(normal(word)));
    return view.getUint32(0).toString(16).padStart(8, "0");
  }).join(" "));
}
